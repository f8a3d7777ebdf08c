"""Where in memory something stands, and what owns that memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

import phypan  # what is slow to import is found in it when it is called
from phypan import Address, Analysis, Dump, Hex, PhypanError, Problem, Unsupported, hookimpl

if TYPE_CHECKING:
    from phypan import Scan, Space

Kind = Literal["text", "bytes", "regex", "u32", "u64", "pointer"]
_LINEAR = 0xC << 60  # where the kernel maps all memory
_SHOWN = 64  # bytes of what a regular expression finds


@dataclass(frozen=True)
class SearchRow:
    """One place.

    physical  the physical address
    address   the effective address in the space that was searched; of physical memory, that of
              the kernel's linear map
    owner     the symbol that it is in, the task whose stack it is on, the object of the slab
              allocator, else the type of its page
    found     what stands there: text, a number, or the bytes in hexadecimal
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
    space: str = "physical",
    pid: int | None = None,
    pgd: Hex | None = None,
    start: str = "",
    end: str = "",
    limit: int = 1000,
) -> Iterator[SearchRow]:
    """Find a pattern in memory, and say what owns each place.

    kind   what the pattern is: text in UTF-8, bytes in hexadecimal, a regular expression over
           bytes, or aligned numbers of the crashed kernel's byte order: one, or FIRST-LAST. A
           pointer is one in hexadecimal, or a symbol
    space  where to look: "physical", "kernel", "linear", "hpt", "vrma"
    pid    look at the addresses of this process
    pgd    of the process whose top page table is there (mm->pgd)
    start  address or symbol to begin at
    end    address or symbol to end before
    limit  places after which it is left; 0 for all
    """
    from phypan.linux import places

    chosen = dump.spaces.named(space, pid=pid, pgd=pgd)
    first = places.address(dump, start) if start else 0
    last = places.address(dump, end) if end else phypan.EVERYWHERE
    found = _places(dump, phypan.Scan(chosen, first, last), pattern, kind)
    owners = phypan.Owners(dump)
    for at, shown in islice(found, limit or None):
        yield _row(chosen, owners, at, shown)
    if limit and next(found, None) is not None:
        what = f"there are more than {limit} places"
        dump.problems.append(Problem(what, "search", "the rest is left out; --limit 0 for all"))


def _row(space: Space, owners: phypan.Owners, at: int, shown: str) -> SearchRow:
    physical = space.physical(at)
    address = _LINEAR | at if space.name == "physical" else at
    return SearchRow(physical, address, owners.of(physical), shown)


def _places(dump: Dump, scan: Scan, pattern: str, kind: Kind) -> Iterator[tuple[int, str]]:
    """(effective address, what stands there) of each place."""
    if kind == "regex":
        try:
            wanted = re.compile(pattern.encode())
        except (re.error, UnicodeError) as error:
            raise Unsupported(f"no regular expression: {error}", where=repr(pattern)) from error
        return ((at, _text(data[:_SHOWN])) for at, data in scan.regex(wanted))
    if kind in ("text", "bytes"):
        data = _encoded(pattern, kind)
        shown = _text(data) if kind == "text" else data.hex()
        return ((at, shown) for at in scan.pattern(data))
    size = 4 if kind == "u32" else 8
    low, high = _numbers(dump, pattern, kind, size)
    form = "{:#x}" if kind == "pointer" else "{}"
    numbers = scan.numbers(size, low, high, dump.byte_order)
    return ((at, form.format(value)) for at, value in numbers)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _encoded(pattern: str, kind: Kind) -> bytes:
    try:
        data = pattern.encode() if kind == "text" else bytes.fromhex(pattern.removeprefix("0x"))
    except ValueError as error:
        hint = "bytes are pairs of hexadecimal digits"
        raise Unsupported(f"no {kind}: {pattern!r}", where="search", hint=hint) from error
    if not data:
        raise Unsupported("nothing to search for", where="search")
    return data


def _numbers(dump: Dump, pattern: str, kind: Kind, size: int) -> tuple[int, int]:
    """The least and the greatest number that is looked for."""
    first, dash, last = pattern.partition("-")
    try:
        low = _number(dump, first, kind)
        high = _number(dump, last, kind) if dash else low
    except (ValueError, PhypanError) as error:
        hint = "a number is decimal or 0x..., a pointer hexadecimal or a symbol; or FIRST-LAST"
        raise Unsupported(f"no {kind}: {pattern!r}", where="search", hint=hint) from error
    if not low <= high < 1 << 8 * size:
        raise Unsupported(f"no {kind}: {pattern!r}", where="search", hint="it does not fit")
    return low, high


def _number(dump: Dump, text: str, kind: Kind) -> int:
    from phypan.linux import places

    return places.address(dump, text) if kind == "pointer" else int(text, 0)


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """Search."""
    return [Analysis(search, SearchRow)]
