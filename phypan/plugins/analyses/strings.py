"""Printable text in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import phypan  # what is slow to import is found in it when it is called
from phypan import Address, Analysis, Bytes, Dump, Hex, Problem, Unsupported, hookimpl

_LEAST = 4  # characters
_MOST = 4096  # characters that may be asked for


@dataclass(frozen=True)
class StringsRow:
    """A run of printable characters."""

    address: Address  # in the space that was looked through
    size: Bytes
    text: str  # the first 4096 bytes of it


def strings(
    dump: Dump,
    *,
    length: int = 8,
    encoding: Literal["ascii", "utf-16le", "utf-16be"] = "ascii",
    space: str = "physical",
    pid: int | None = None,
    pgd: Hex | None = None,
    start: str = "",
    end: str = "",
    limit: int = 0,
) -> Iterator[StringsRow]:
    """List printable text in memory, as strings does for files.

    length    characters that it has at the least
    encoding  how they are written: "ascii", "utf-16le", "utf-16be"
    space     where to look: "physical", "kernel", "linear", "hpt", "vrma"
    pid       look at the addresses of this process
    pgd       of the process whose top page table is there (mm->pgd)
    start     address or symbol to begin at
    end       address or symbol to end before
    limit     rows after which it is left; 0 for all
    """
    from phypan.linux import places

    if not _LEAST <= length <= _MOST:
        raise Unsupported(f"text of {length} characters", hint=f"ask for {_LEAST} to {_MOST}")
    chosen = dump.spaces.named(space, pid=pid, pgd=pgd)
    first = places.address(dump, start) if start else 0
    last = places.address(dump, end) if end else phypan.EVERYWHERE
    found = phypan.Scan(chosen, first, last).texts(length, encoding)
    for address, size, data in islice(found, limit or None):
        yield StringsRow(address, size, bytes(data).decode(encoding))
    if limit and next(found, None) is not None:
        what = f"there are more than {limit} rows"
        dump.problems.append(Problem(what, "strings", "the rest is left out; --limit 0 for all"))


def text(rows: Iterable[StringsRow]) -> Iterator[str]:
    """As strings -t x shows them."""
    for row in rows:
        yield f"{row.address:16x} {row.text}"


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The text."""
    return [Analysis(strings, StringsRow, text=text)]
