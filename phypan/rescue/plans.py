"""Plans: what writers take of a dump but for its memory, kept beside the journal until the end.

They are durable before any memory is given back: which pages a dump level leaves out nobody can
tell any more once the struct pages are gone.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from phypan.descriptors import write_file
from phypan.errors import InputError, OutputError, os_errors

_MOST = 64  # plans of a capture


def write(journal: Path, plans: Sequence[bytes]) -> list[int]:
    """Keep them, in this order; what `read` is to be told of each."""
    sums = []
    for number, plan in enumerate(plans):
        data = zlib.compress(plan, 1)
        write_file(_path(journal, number), data)
        sums.append(zlib.crc32(data))
    return sums


def read(journal: Path, number: int, crc: int) -> bytes:
    """One of them; InputError if it is gone, or not what was written."""
    path = _path(journal, number)
    with os_errors(InputError, path):
        data = path.read_bytes()
    if zlib.crc32(data) != crc:
        what = "is damaged"
        hint = "what was saved is in the unfinished dump; nothing can be put behind it"
        raise InputError(what, where=str(path), hint=hint)
    return zlib.decompress(data)


def forget(journal: Path) -> None:
    """Remove all of them."""
    for number in range(_MOST):
        path = _path(journal, number)
        with os_errors(OutputError, path), suppress(FileNotFoundError):
            path.unlink()
            continue
        break


def _path(journal: Path, number: int) -> Path:
    return journal.with_name(f"{journal.name}.plan{number}")
