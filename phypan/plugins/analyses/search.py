"""Where in memory something stands, and what owns that memory."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from phypan import (
    Address,
    Analysis,
    Dump,
    PageTypes,
    PhypanError,
    Problem,
    Unsupported,
    hookimpl,
    page_type,
)

Kind = Literal["text", "bytes", "regex", "u32", "u64", "pointer"]
_LINEAR = 0xC << 60  # where the kernel maps all memory
_LONGEST = 4096  # bytes that a regular expression finds
_SHOWN = 64  # bytes of them


@dataclass(frozen=True)
class SearchRow:
    """One place.

    physical  the physical address
    address   the kernel's effective address of it, in the linear map
    owner     the symbol that it is in, the task whose stack it is on, else the type of its page
    found     what stands there: text, or the bytes in hexadecimal
    """

    physical: Address
    address: Address
    owner: str | None
    found: str


def search(
    dump: Dump,
    pattern: str,
    *,
    kind: Kind = "text",
    start: Address = 0,
    end: Address | None = None,
    limit: int = 1000,
) -> Iterator[SearchRow]:
    """Find a pattern in physical memory, and say what owns each place.

    kind   what the pattern is: text in UTF-8, bytes in hexadecimal, a regular expression over
           bytes, or an aligned number of the crashed kernel's byte order; a pointer is hexadecimal
    start  physical address to begin at
    end    physical address to end before
    limit  places after which it is left; 0 for all
    """
    places = _places(dump, pattern, kind, start, end)
    owners = _Owners(dump)
    for address, data in islice(places, limit or None):
        shown = (
            data.decode("utf-8", "backslashreplace") if kind in ("text", "regex") else data.hex()
        )
        yield SearchRow(address, _LINEAR | address, owners.of(address), shown)
    if limit and next(places, None) is not None:
        what = f"there are more than {limit} places"
        dump.problems.append(Problem(what, "search", "the rest is left out; --limit 0 for all"))


def _places(
    dump: Dump, pattern: str, kind: Kind, start: int, end: int | None
) -> Iterator[tuple[int, bytes]]:
    """(physical address, what stands there) of each place, in ascending order."""
    if kind == "regex":
        return _matches(dump, pattern, start, end)
    data = _encoded(dump, pattern, kind)
    align = len(data) if kind in ("u32", "u64", "pointer") else 1
    found = dump.memory.find(data, start, end)
    return ((address, data) for address in found if address % align == 0)


def _encoded(dump: Dump, pattern: str, kind: Kind) -> bytes:
    try:
        if kind == "text":
            data = pattern.encode()
        elif kind == "bytes":
            data = bytes.fromhex(pattern.removeprefix("0x"))
        else:
            number = int(pattern, 16 if kind == "pointer" else 0)
            data = number.to_bytes(4 if kind == "u32" else 8, dump.byte_order)
    except (ValueError, OverflowError) as error:
        hint = "bytes are pairs of hexadecimal digits, numbers are decimal or 0x..."
        raise Unsupported(f"no {kind}: {pattern!r}", where="search", hint=hint) from error
    if not data:
        raise Unsupported("nothing to search for", where="search")
    return data


def _matches(dump: Dump, pattern: str, start: int, end: int | None) -> Iterator[tuple[int, bytes]]:
    """What a regular expression finds; what is longer than 4096 bytes may be found in pieces."""
    try:
        wanted = re.compile(pattern.encode())
    except re.error as error:
        raise Unsupported(f"no regular expression: {error}", where=pattern) from error
    return _found(dump, wanted, start, end)


def _found(
    dump: Dump, wanted: re.Pattern[bytes], start: int, end: int | None
) -> Iterator[tuple[int, bytes]]:
    behind = 0  # the last place: stretches overlap
    for address, data in dump.memory.stretches(start, end, overlap=_LONGEST):
        for match in wanted.finditer(data):
            at = address + match.start()
            if match[0] and at >= behind:
                behind = address + match.end()
                yield at, match[0][:_SHOWN]


@dataclass
class _Owners:
    """What memory belongs to; asked for in ascending order, so that each page is looked at once."""

    dump: Dump
    stacks: list[tuple[int, int, str]] | None = None
    types: PageTypes | None = None
    first: int = 0
    codes: bytes = field(default=b"", repr=False)

    def of(self, address: int) -> str | None:
        """The owner of a physical address; None if nothing is known of it."""
        ways: tuple[Callable[[int], str | None], ...] = (self._symbol, self._stack, self._page)
        for way in ways:
            try:
                owner = way(address)
            except PhypanError:
                continue
            if owner is not None:
                return owner
        return None

    def _symbol(self, address: int) -> str | None:
        return self.dump.symbols.describe(_LINEAR | address)

    def _stack(self, address: int) -> str | None:
        if self.stacks is None:
            self.stacks = sorted(_stacks(self.dump)) if self.dump.types else []
        index = bisect_right(self.stacks, (address, 1 << 64, "")) - 1
        if index < 0 or address >= self.stacks[index][1]:
            return None
        return self.stacks[index][2]

    def _page(self, address: int) -> str | None:
        frame = address // self.dump.page_size
        if not self.first <= frame < self.first + len(self.codes):
            self.types = self.types or PageTypes(self.dump)
            parts = self.types.between(frame, frame + 1)
            found = (part for part in parts if part[0] <= frame < part[0] + len(part[1]))
            self.first, codes = next(found, (0, b""))
            self.codes = bytes(codes)
            if not self.codes:
                return None
        return f"{page_type(self.codes[frame - self.first]).name} page"


def _stacks(dump: Dump) -> Iterator[tuple[int, int, str]]:
    """(physical address, end, whose) of the stack of each task."""
    from phypan.linux import tasks, walk

    try:
        size = dump.program.type("union thread_union").size or 0
        for task in tasks.each(dump):
            start = int(task.task.stack)
            if start >> 60 == _LINEAR >> 60:
                whose = f"stack of {task.comm} ({task.pid})"
                yield start - _LINEAR, start - _LINEAR + size, whose
    except walk.faults() as error:
        dump.problems.append(Problem(walk.reason(error), "stacks", "they are not named"))


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """Search."""
    return [Analysis(search, SearchRow)]
