"""Target: where a capture goes, opened for the first time or again, by what its journal tells."""

from __future__ import annotations

import base64
import json
import os
from contextlib import suppress
from pathlib import Path

from phypan.descriptors import write_file
from phypan.errors import InputError, OutputError, os_errors
from phypan.places import opening
from phypan.places.address import PIPE
from phypan.places.flat import Appended, Flat
from phypan.places.protocols import Stream, Target
from phypan.places.sealed import Sealed, sealed_size
from phypan.rescue.journal import Record
from phypan.rescue.local import SUFFIX, LocalFile
from phypan.rescue.outline import Outline
from phypan.rescue.past import Past
from phypan.rescue.sending import Sending, ToStream, ToTarget
from phypan.sealing.chunks import Seal

_MORE = 64 << 20  # bytes that a stream may be longer than the file in it


def make_ready(record: Record) -> Record:
    """See that nothing is in the way before anything is done; the first record, with the place."""
    target, force = record["target"], record["force"]
    if target == PIPE:
        return record
    if opening.is_here(target):
        LocalFile(target, force=force).close()
        return record
    opening.check(target, force=force)
    return {**record, "place": opening.begin(target)}


def open_target(past: Past, outline: Outline, journal: Path, verify: bool) -> Target:
    """The target that the journal names, behind what is certain to be there."""
    if _has_offsets(past.begin):
        heads = (outline.head, outline.incomplete_head)
        return _at_offsets(past.begin, past.safe or None, heads, outline.size, verify)
    return Flat(_open_stream(past, outline.size + _MORE, journal, verify), past.place)


def open_sending(past: Past, most: int, journal: Path, verify: bool) -> Sending:
    """The same for what a writer writes, of `most` bytes at the most."""
    place = past.place
    if _has_offsets(past.begin):
        begins = (bytes.fromhex(place.get("begin", "")),)
        target = _at_offsets(past.begin, place.get("end"), begins, 0, verify)
        return ToTarget(target, place)
    stream = _open_stream(past, most, journal, verify)
    return ToStream(stream, place, kept=opening.resumable(past.begin["target"]))


def _has_offsets(told: Record) -> bool:
    target = told["target"]
    return not told["seal_for"] and (opening.is_here(target) or opening.is_sftp(target))


def _open_stream(past: Past, most: int, journal: Path, verify: bool) -> Stream:
    """The stream to the target, sealed or not, that stands behind what is certain."""
    told, sent = past.begin, past.place.get("sent", 0)
    if not told["seal_for"]:
        return opening.open_stream(told["target"], past.place, most)
    seal = _seal(past, journal)
    stream: Stream
    if opening.is_here(told["target"]) or opening.is_sftp(told["target"]):
        kept = sealed_size(seal, sent)
        stream = Appended(_at_offsets(told, kept or None, (seal.head,), 0, verify), kept)
    else:
        stream = opening.open_stream(told["target"], past.place, most)
    return Sealed(stream, seal, at=sent)


def _at_offsets(
    told: Record, kept: int | None, begins: tuple[bytes, ...], length: int, verify: bool
) -> Target:
    target = told["target"]
    if opening.is_sftp(target):
        return opening.open_sftp(target, kept=kept, begins=begins, length=length)
    return LocalFile(
        target, kept=kept, begins=begins, length=length, force=told["force"], verify=verify
    )


def is_named(past: Past) -> bool:
    """Whether the file was finished; it may be that this was not noted any more."""
    target = past.begin["target"]
    if past.named or past.complete is None or target == PIPE:
        return past.named
    if not opening.is_here(target):
        return opening.is_named(target, past.place)
    path = Path(target)
    return path.exists() and not path.with_name(path.name + SUFFIX).exists()


# -- the secret of a sealed capture ----------------------------------------------------------------


def _seal(past: Past, journal: Path) -> Seal:
    """That of what is certain, or a new one where nothing is.

    What is to be gone on with needs the key of the file, which the journal's machine must keep
    until the end: in a file beside the journal, for root's eyes only.
    """
    path = _secret(journal)
    if past.place.get("sent", 0):
        with os_errors(InputError, path):
            told = json.loads(path.read_bytes())
        return Seal(bytes.fromhex(told["file_key"]), base64.b64decode(told["head"]))
    seal = Seal.new([bytes.fromhex(key) for key in past.begin["seal_for"]])
    if opening.resumable(past.begin["target"]):
        told = {"file_key": seal.file_key.hex(), "head": base64.b64encode(seal.head).decode()}
        write_file(path, json.dumps(told).encode())
    return seal


def forget_secret(journal: Path) -> None:
    """Overwrite the key of a sealed capture, and remove it."""
    path = _secret(journal)
    with os_errors(OutputError, path), suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.unlink(path)


def _secret(journal: Path) -> Path:
    return journal.with_name(journal.name + ".secret")
