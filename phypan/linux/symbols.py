"""Symbols of the crashed kernel and its modules: addresses to names and back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

_TEXT = frozenset("tTwW")
_FARTHEST = 1 << 24  # bytes from a symbol to an address that is still said to be in it


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol.

    name     without the dot that ELFv1 puts before the code of a function
    address  effective
    size     bytes to the next symbol
    kind     the letter that nm prints: T text, D data, B bss, ...; small for local ones
    module   the module that it is in; None for the kernel itself
    """

    name: str
    address: int
    size: int
    kind: str
    module: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is code."""
        return self.kind in _TEXT


class Table:
    """The symbols of the kernel, or of one module, in order of address.

    addresses  effective, ascending
    names      type and name of each, as in kallsyms
    end        the first address behind the last symbol, if that is known
    parts      (start, end) of the pieces of memory that it describes, if that is known: since 6.4
               a module's code and data lie apart, and other modules between them
    """

    def __init__(
        self,
        addresses: Sequence[int],
        names: Sequence[str],
        end: int | None = None,
        module: str | None = None,
        parts: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.addresses, self.names, self.module = addresses, names, module
        self.parts = parts
        last = addresses[-1] if addresses else 0
        self.end = last + 1 if end is None else end

    def __len__(self) -> int:
        return len(self.addresses)

    def symbol(self, index: int) -> Symbol:
        """The symbol at a place in the table."""
        address, text = self.addresses[index], self.names[index]
        behind = bisect_right(self.addresses, address)
        end = self.addresses[behind] if behind < len(self.addresses) else self.end
        part = self._part(address)
        end = min(end, part[1]) if part else end
        kind, name = text[:1], text[1:]
        if name.startswith(".") and kind in _TEXT:
            name = name[1:]
        return Symbol(name, address, max(0, end - address), kind, self.module)

    def at(self, address: int) -> Symbol | None:
        """The symbol that an effective address is in; of several names the first, as in an oops."""
        index = bisect_right(self.addresses, address) - 1
        if index < 0 or address >= self.end:
            return None
        start = self.addresses[index]
        part = self._part(address)
        if address - start >= _FARTHEST or (self.parts and (part is None or start < part[0])):
            return None
        while index and self.addresses[index - 1] == start:
            index -= 1
        return self.symbol(index)

    def _part(self, address: int) -> tuple[int, int] | None:
        """The piece of memory that an address is in, as far as they are known."""
        return next((part for part in self.parts if part[0] <= address < part[1]), None)

    @cached_property
    def by_name(self) -> dict[str, list[int]]:
        """Places in the table by name, without kinds and dots; code before function descriptors."""
        found: dict[str, list[int]] = {}
        for index, text in enumerate(self.names):
            code = text[1:2] == "." and text[0] in _TEXT
            places = found.setdefault(text[2:] if code else text[1:], [])
            places.insert(0, index) if code else places.append(index)
        return found


class Symbols:
    """All symbols that are known.

    source   where they are from: "kallsyms", the path of a vmlinux, or "" for nowhere
    modules  gives the tables of modules; called once, when the first address or name is asked for
             that the kernel itself does not have
    """

    def __init__(
        self,
        tables: Iterable[Table] = (),
        source: str = "",
        modules: Callable[[], Iterable[Table]] | None = None,
    ) -> None:
        self._tables = [table for table in tables if len(table)]
        self.source = source
        self._modules = modules

    def __bool__(self) -> bool:
        return bool(self._tables)

    def __len__(self) -> int:
        return sum(len(table) for table in self.tables)

    def __iter__(self) -> Iterator[Symbol]:
        """All symbols, in order of address within the kernel and each module."""
        return (table.symbol(index) for table in self.tables for index in range(len(table)))

    @property
    def tables(self) -> Sequence[Table]:
        """The kernel's table, and those of its modules."""
        return [*self._tables, *self._load()]

    def _load(self) -> Sequence[Table]:
        """The tables of modules that were not there yet."""
        modules, self._modules = self._modules, None  # while they are read, they are not known
        found = [table for table in modules() if len(table)] if modules else []
        self._tables += found
        return found

    def _in_turn(self) -> Iterator[Table]:
        yield from tuple(self._tables)
        yield from self._load()

    def at(self, address: int) -> Symbol | None:
        """The symbol that an effective address is in; None if no symbol is near."""
        found = (table.at(address) for table in self._in_turn())
        return next((symbol for symbol in found if symbol is not None), None)

    def find(self, name: str) -> list[Symbol]:
        """All symbols of a name, in the kernel or else in modules; code before its descriptor."""
        for table in self._in_turn():
            places = table.by_name.get(name)
            if places:
                return [table.symbol(index) for index in places]
        return []

    def address(self, name: str) -> int | None:
        """The effective address of the first symbol of a name; None if there is none."""
        found = self.find(name)
        return found[0].address if found else None

    def caller(self, address: int) -> Symbol | None:
        """The function that a return address leads back to: it may be behind the last of it."""
        return self.at(address - 1)

    def describe(self, address: int) -> str | None:
        """An address as an oops prints it: "name+0x10/0x80 [module]"; None if no symbol is near."""
        symbol = self.at(address)
        if symbol is None:
            return None
        module = f" [{symbol.module}]" if symbol.module else ""
        return f"{symbol.name}+{address - symbol.address:#x}/{symbol.size:#x}{module}"
