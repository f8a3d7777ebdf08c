"""Names of addresses, and addresses of names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Bytes, Dump, Hex, PhypanError, Problem, hookimpl

if TYPE_CHECKING:
    from phypan.linux.symbols import Symbol


@dataclass(frozen=True)
class SymbolRow:
    """A symbol."""

    asked: str
    name: str
    address: Address  # of the symbol, effective
    offset: Hex  # from there to the address that was asked for
    size: Bytes  # to the next symbol
    kind: str  # nm's letter: T text, D data, B bss, R read-only; small for local ones
    module: str | None  # None for the kernel's own


def symbol(dump: Dump, names: tuple[str, ...]) -> Iterator[SymbolRow]:
    """Find symbols: by name, by a pattern with * and ?, or the nearest to an address.

    A name that several symbols have gives all of them; an address is hexadecimal.
    """
    for asked in names:
        found = list(_found(dump, asked))
        for symbol, offset in found:
            yield SymbolRow(
                asked=asked,
                name=symbol.name,
                address=symbol.address,
                offset=offset,
                size=symbol.size,
                kind=symbol.kind,
                module=symbol.module,
            )
        if not found:
            what, meaning = f"no symbol {asked!r}", "it is left out"
            dump.problems.append(Problem(what, "symbols", meaning))


def _found(dump: Dump, asked: str) -> Iterator[tuple[Symbol, int]]:
    """(symbol, offset in it)."""
    from phypan.linux import places

    if any(character in asked for character in "*?["):
        yield from ((each, 0) for each in dump.symbols if fnmatchcase(each.name, asked))
        return
    named = [] if asked[:1].isdigit() else dump.symbols.find(asked)
    yield from ((each, 0) for each in named)
    if named:
        return
    try:
        address = places.address(dump, asked)
    except PhypanError:
        return
    nearest = dump.symbols.at(address)
    if nearest is not None:
        yield nearest, address - nearest.address


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The symbols."""
    return [Analysis(symbol, SymbolRow, needs=frozenset({"symbols"}))]
