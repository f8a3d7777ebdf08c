"""What drgn asks for by name - types, variables, functions, constants, symbols - and who answers.

Types are those of BTF. A variable's or function's address is that of its symbol; its type BTF's,
or that of the table in phypan.linux.variables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from phypan.errors import PhypanError
from phypan.formats import pt_regs
from phypan.formats.btf import Kind
from phypan.linux import types, variables
from phypan.linux.symbols import Symbol, Symbols
from phypan.linux.types import BtfTypes

if TYPE_CHECKING:
    import drgn

_MAX_ELEMENTS = 1 << 20  # of an array whose length is that of its symbol


def _kinds_of(kinds: drgn.TypeKindSet) -> frozenset[Kind]:
    """BTF's kinds for drgn's."""
    from drgn import TypeKind

    table: Mapping[TypeKind, tuple[Kind, ...]] = {
        TypeKind.INT: (Kind.INT,),
        TypeKind.BOOL: (Kind.INT,),
        TypeKind.FLOAT: (Kind.FLOAT,),
        TypeKind.STRUCT: (Kind.STRUCT,),
        TypeKind.UNION: (Kind.UNION,),
        TypeKind.ENUM: (Kind.ENUM, Kind.ENUM64),
        TypeKind.TYPEDEF: (Kind.TYPEDEF,),
    }
    return frozenset(kind for each in kinds for kind in table.get(each, ()))


class Finders:
    """The answers, for one drgn.Program.

    symbols  of the kernel and its modules
    btfs     the types of vmlinux, if they are to be BTF's
    modules  gives the types of modules; called once, when the first name is asked for that
             vmlinux does not have
    """

    def __init__(
        self,
        symbols: Symbols,
        btfs: Sequence[BtfTypes],
        modules: Callable[[], Iterable[BtfTypes]] = tuple,
    ) -> None:
        self.symbols = symbols
        self._btfs = list(btfs)
        self._modules: Callable[[], Iterable[BtfTypes]] | None = modules

    @property
    def btfs(self) -> Iterator[BtfTypes]:
        """The types of vmlinux, then those of modules."""
        yield from tuple(self._btfs)
        modules, self._modules = self._modules, None
        for more in modules() if modules else ():
            self._btfs.append(more)
            yield more

    def register(self, program: drgn.Program) -> None:
        """Answer `program`'s questions, after the finders that it has."""
        program.register_type_finder("phypan", self.type, enable_index=-1)
        program.register_object_finder("phypan", self.object, enable_index=-1)
        program.register_symbol_finder("phypan", self.symbol, enable_index=-1)

    def type(
        self, program: drgn.Program, kinds: drgn.TypeKindSet, name: str, filename: str | None
    ) -> drgn.Type | None:
        """The type of a name; None if there is none, or if one of a certain file is wanted."""
        if filename:
            return None
        wanted = _kinds_of(kinds)
        found = types.find(self.btfs, name, wanted)
        if found is None and not self._btfs and name == "pt_regs" and Kind.STRUCT in wanted:
            return _pt_regs(program)
        return found if found is None or found.kind in kinds else None

    def object(
        self, program: drgn.Program, name: str, flags: drgn.FindObjectFlags, filename: str | None
    ) -> drgn.Object | None:
        """The variable, function or constant of a name; None if there is none."""
        from drgn import FindObjectFlags

        if filename:
            return None
        found = None
        if flags & FindObjectFlags.VARIABLE:
            found = self._variable(program, name)
        if found is None and flags & FindObjectFlags.FUNCTION:
            found = self._function(program, name)
        if found is None and flags & FindObjectFlags.CONSTANT:
            found = self._constant(program, name)
        return found

    def _variable(self, program: drgn.Program, name: str) -> drgn.Object | None:
        from drgn import Object

        symbol = self._symbol(name, text=False)
        if symbol is None:
            return None
        for btf in self.btfs:
            index = btf.variables.get(name)
            if index is not None:
                return Object(program, btf.type(index), address=symbol.address)
        for text, suffix in variables.declarations().get(name, ()):
            of = _declared(program, text, suffix, symbol.size)
            if of is not None:
                return Object(program, of, address=symbol.address)
        return None

    def _function(self, program: drgn.Program, name: str) -> drgn.Object | None:
        from drgn import Object

        symbol = self._symbol(name, text=True)
        if symbol is None:
            return None
        of = types.find(self.btfs, name, frozenset({Kind.FUNC}))
        return None if of is None else Object(program, of, address=symbol.address)

    def _constant(self, program: drgn.Program, name: str) -> drgn.Object | None:
        from drgn import Object

        for btf in self.btfs:
            found = btf.constants.get(name)
            if found is not None:
                return Object(program, btf.type(found[0]), value=found[1])
        return None

    def _symbol(self, name: str, *, text: bool) -> Symbol | None:
        found = (symbol for symbol in self.symbols.find(name) if symbol.is_text is text)
        return next(found, None)

    def symbol(
        self, program: drgn.Program, name: str | None, address: int | None, one: bool
    ) -> list[drgn.Symbol]:
        """The symbols of a name or at an address, as drgn's."""
        if name is not None:
            found = self.symbols.find(name)
        elif address is not None:
            at = self.symbols.at(address)
            found = [at] if at else []
        else:
            found = list(self.symbols)
        if name is not None and address is not None:
            found = [s for s in found if s.address <= address < s.address + max(s.size, 1)]
        return [_drgn_symbol(symbol) for symbol in (found[:1] if one else found)]


def _drgn_symbol(symbol: Symbol) -> drgn.Symbol:
    from drgn import Symbol as DrgnSymbol
    from drgn import SymbolBinding, SymbolKind

    weak = symbol.kind in "wWvVu"
    binding = SymbolBinding.LOCAL if symbol.kind.islower() else SymbolBinding.GLOBAL
    kind = SymbolKind.FUNC if symbol.is_text else SymbolKind.OBJECT
    if weak:
        binding = SymbolBinding.WEAK
    return DrgnSymbol(symbol.name, symbol.address, symbol.size, binding, kind)


def _declared(program: drgn.Program, text: str, suffix: str, size: int) -> drgn.Type | None:
    """The type of a declaration in C; None if the kernel does not know it."""
    from drgn import sizeof

    try:
        of = program.type(text)
        for length in reversed(re.findall(r"\[([^]]*)\]", suffix)):
            if length == "*":
                count = size // (sizeof(of) or 1)
            else:
                count = int(length) if length.isdigit() else int(program.constant(length))
            of = program.array_type(of, min(count, _MAX_ELEMENTS))
    except (LookupError, TypeError, PhypanError):  # no such type; or one without a size
        return None
    return of if of.is_complete() else None


def _pt_regs(program: drgn.Program) -> drgn.Type:
    """struct pt_regs as it has been since 2.6: unwinding needs no more to be known."""
    from drgn import TypeMember

    word = program.int_type("unsigned long", 8, False)
    rest = [name for name in pt_regs.NAMES if not name.startswith("gpr")]
    members = [TypeMember(program.array_type(word, 32), "gpr", 0)]
    members += [TypeMember(word, name, 64 * (32 + n)) for n, name in enumerate(rest)]
    return program.struct_type("pt_regs", 8 * len(pt_regs.NAMES), members)
