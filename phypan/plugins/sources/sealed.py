"""A sealed dump: an age file, as `--seal-for` and age itself write it, around any other file."""

from __future__ import annotations

from dataclasses import replace

from phypan import Input, SealedStore, Source, Unsupported, hookimpl
from phypan.formats import age

_HEAD = 4096  # bytes that a source may look at


def probe(given: Input) -> int:
    """Sure of what begins with the name and version of the format."""
    return 95 if given.head.startswith(age.MAGIC) else 0


def open_(given: Input) -> Input:
    """What is inside, if one of the keys opens it."""
    if given.store is None:
        raise Unsupported("a directory is not sealed", where=str(given.path))
    inside = SealedStore(given.store, given.keys)
    return replace(given, store=inside, head=bytes(inside.view(0, min(inside.size, _HEAD))))


@hookimpl
def phypan_sources() -> list[Source]:
    """The sealed dump."""
    help_ = "sealed dump (age), around any other kind; --key opens it"
    return [Source("sealed", help_, probe, open_, envelope=True)]
