"""Opening: what there is for which kind of address. Protocols are imported when they are used."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from phypan.errors import Unsupported
from phypan.places.address import PIPE, parsed, scheme_of, shown
from phypan.places.flat import Appended
from phypan.places.pipe import Pipe
from phypan.places.protocols import Stream, Target
from phypan.places.shelves import SftpShelf, Shelf, on_fsspec

_SSH, _HTTP, _S3 = ("ssh", "sftp"), ("http", "https"), ("s3", "s3a")


def is_here(target: str) -> bool:
    """Whether it is a path on this machine."""
    return target != PIPE and scheme_of(target) is None


def is_sftp(target: str | os.PathLike[str]) -> bool:
    """Whether it is a file on another machine that is written at offsets."""
    return scheme_of(target) in _SSH


def resumable(target: str) -> bool:
    """Whether anything is certain there before all is, so that one can go on with it."""
    return target != PIPE and scheme_of(target) in (None, *_SSH, *_S3)


def check(target: str, *, force: bool) -> None:
    """OutputError if something is there already; Unreachable if the place does not answer.

    Not for paths: whoever opens these looks.
    """
    scheme = scheme_of(target)
    if scheme in _SSH:
        from phypan.places import sftp

        sftp.check(parsed(target), force=force)
    elif scheme in _S3:
        from phypan.places import s3

        s3.check(parsed(target), force=force)
    elif scheme in _HTTP:
        from phypan.places import put

        put.check(parsed(target), force=force)
    elif scheme is not None:
        from phypan.places import elsewhere

        elsewhere.check(target, force=force)


def make_folder(target: str) -> None:
    """The folder at a URL, where the place has folders. Unreachable if it does not answer."""
    scheme = scheme_of(target)
    if scheme in _SSH:
        from phypan.places import sftp

        sftp.make_folder(parsed(target))
    elif scheme in _HTTP:
        from phypan.places import put

        put.make_folder(parsed(target))
    elif scheme not in _S3:
        from phypan.places import elsewhere

        elsewhere.make_folder(target)


def put_whole(target: str, data: bytes) -> None:
    """A small file at a URL: all of it, or what was there."""
    stream = open_stream(target, {}, len(data))
    try:
        stream.append(data)
        stream.finish()
    finally:
        stream.close()


def open_shelf(target: str) -> Shelf:
    """What is at a URL. Unsupported for HTTP, which cannot be asked."""
    scheme = scheme_of(target)
    if scheme in _SSH:
        return SftpShelf(parsed(target))
    if scheme in _S3:
        from phypan.places import s3

        return s3.shelf(parsed(target))
    if scheme in _HTTP:
        what, hint = "an HTTP server cannot be asked what it has", "have the server do it"
        raise Unsupported(what, where=shown(target), hint=hint)
    return on_fsspec(target)


def begin(target: str) -> Mapping[str, Any]:
    """What a place has to be told before anything can go there; the first of Certain.place."""
    if scheme_of(target) not in _S3:
        return {}
    from phypan.places import s3

    return s3.begin(parsed(target))


def open_sftp(
    target: str, *, kept: int | None = None, begins: Sequence[bytes] = (), length: int = 0
) -> Target:
    """A file on another machine (see SftpFile)."""
    from phypan.places.sftp import SftpFile

    return SftpFile(parsed(target), kept=kept, begins=begins, length=length)


def open_stream(target: str, place: Mapping[str, Any], size: int) -> Stream:
    """A stream to a place that is not on this machine, or standard output.

    place  what is known of it (see Certain), if it was begun before
    size   bytes that will go there at the most
    """
    scheme = scheme_of(target)
    if target == PIPE:
        return Pipe(sys.stdout.fileno(), "standard output")
    if scheme in _SSH:
        return Appended(open_sftp(target))
    if scheme in _S3:
        from phypan.places.s3 import S3Upload

        return S3Upload(parsed(target), place, size)
    if scheme in _HTTP:
        from phypan.places.put import HttpPut

        return HttpPut(parsed(target))
    from phypan.places.elsewhere import FsspecStream

    return FsspecStream(target)


def is_named(target: str, place: Mapping[str, Any]) -> bool:
    """Whether what was begun there is finished, though nobody noted it any more."""
    if is_sftp(target):
        from phypan.places import sftp

        return sftp.is_named(parsed(target))
    if scheme_of(target) in _S3:
        from phypan.places import s3

        return s3.is_named(parsed(target), place)
    return False
