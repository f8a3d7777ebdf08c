"""drgn's types out of BTF: the same that drgn makes of DWARF, as far as BTF knows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from phypan.errors import BadRecord
from phypan.formats.btf import INT_BOOL, INT_SIGNED, Btf, Kind, Type

if TYPE_CHECKING:
    import drgn

_DEEPEST = 64  # types that refer to each other without a struct between them: C has a few
_SAME = frozenset({Kind.TYPE_TAG, Kind.FUNC, Kind.VAR})
_ALIASES = frozenset({Kind.TYPEDEF, Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG})


class BtfTypes:
    """The types in one BTF, and in that of vmlinux under it, for a drgn.Program."""

    def __init__(self, program: drgn.Program, btf: Btf, base: BtfTypes | None = None) -> None:
        self.program, self.btf, self.base = program, btf, base
        self._made: dict[int, drgn.Type] = {}
        self._depth = 0
        self._make: Mapping[Kind, Callable[[Type], drgn.Type]] = {
            Kind.VOID: lambda of: program.void_type(),
            Kind.INT: self._int,
            Kind.FLOAT: lambda of: program.float_type(of.name, of.value),
            Kind.PTR: lambda of: program.pointer_type(self.type(of.value)),
            Kind.ARRAY: self._array,
            Kind.STRUCT: self._compound,
            Kind.UNION: self._compound,
            Kind.ENUM: self._enum,
            Kind.ENUM64: self._enum,
            Kind.FWD: self._forward,
            Kind.TYPEDEF: lambda of: program.typedef_type(of.name, self.type(of.value)),
            Kind.VOLATILE: self._qualified,
            Kind.CONST: self._qualified,
            Kind.RESTRICT: self._qualified,
            Kind.FUNC_PROTO: self._function,
        }

    def type(self, index: int) -> drgn.Type:
        """The type of an id; BadRecord if it is damaged or refers to itself."""
        if self.base is not None and index < self.btf.first_id:
            return self.base.type(index)
        made = self._made.get(index)
        if made is None:
            if self._depth >= _DEEPEST:
                raise BadRecord(f"type {index} refers to itself", where="BTF")
            self._depth += 1
            try:
                made = self._made[index] = self._new(self.btf.type(index))
            finally:
                self._depth -= 1
        return made

    def _new(self, of: Type) -> drgn.Type:
        if of.kind in _SAME:
            return self.type(of.value)
        make = self._make.get(of.kind)
        if make is None:
            raise BadRecord(f"{of.kind.name} {of.name!r} is no type of C", where="BTF")
        return make(of)

    def find(self, name: str, kinds: frozenset[Kind]) -> drgn.Type | None:
        """The first type of a name and one of some kinds; None if there is none."""
        for index in self.btf.find(name):
            if self.btf.type(index).kind in kinds:
                return self.type(index)
        return None

    def _int(self, of: Type) -> drgn.Type:
        encoding = self.btf.integer(of).encoding
        if encoding & INT_BOOL:
            return self.program.bool_type(of.name, of.value)
        return self.program.int_type(of.name, of.value, bool(encoding & INT_SIGNED))

    def _array(self, of: Type) -> drgn.Type:
        array = self.btf.array(of)
        return self.program.array_type(self.type(array.type), array.length)

    def _qualified(self, of: Type) -> drgn.Type:
        from drgn import Qualifiers

        inner = self.type(of.value)
        added = {
            Kind.CONST: Qualifiers.CONST,
            Kind.VOLATILE: Qualifiers.VOLATILE,
            Kind.RESTRICT: Qualifiers.RESTRICT,
        }[of.kind]
        return inner.qualified(inner.qualifiers | added)

    def _forward(self, of: Type) -> drgn.Type:
        """The struct itself, if there is one of the name; else one of which no more is known."""
        kind = Kind.UNION if of.flag else Kind.STRUCT
        found = self.find(of.name, frozenset({kind}))
        if found is None and self.base is not None:
            found = self.base.find(of.name, frozenset({kind}))
        if found is not None:
            return found
        return (self.program.union_type if of.flag else self.program.struct_type)(of.name)

    def _enum(self, of: Type) -> drgn.Type:
        from drgn import TypeEnumerator

        values = self.btf.enumerators(of)
        if not values:
            return self.program.enum_type(of.name or None)
        signed = any(value < 0 for _, value in values)
        size = of.value if of.value in (1, 2, 4, 8) else 4
        name = {1: "char", 2: "short", 4: "int", 8: "long"}[size]
        kind = self.program.int_type(name if signed else f"unsigned {name}", size, signed)
        enumerators = [TypeEnumerator(name, value) for name, value in values]
        return self.program.enum_type(of.name or None, kind, enumerators)

    def _function(self, of: Type) -> drgn.Type:
        from drgn import TypeParameter

        parameters = list(self.btf.parameters(of))
        variadic = bool(parameters) and parameters[-1] == ("", 0)
        if variadic:
            parameters.pop()
        return self.program.function_type(
            self.type(of.value),
            [TypeParameter(self._later(kind), name or None) for name, kind in parameters],
            variadic,
        )

    def _later(self, index: int) -> Callable[[], drgn.Type]:
        return lambda: self.type(index)

    def _compound(self, of: Type) -> drgn.Type:
        members = list(self._members(of))
        make: Any = self.program.union_type if of.kind is Kind.UNION else self.program.struct_type
        return make(of.name or None, of.value, members)

    def _members(self, of: Type) -> Iterator[drgn.TypeMember]:
        from drgn import TypeMember

        members = self.btf.members(of)
        for member in members:
            last = of.kind is Kind.STRUCT and member is members[-1]
            width, offset = member.bit_field_size, member.bit_offset
            if width is None and not of.flag:
                width, more = self._old_bit_field(member.type)
                offset += more
            make = self._member(member.type, width, last)
            yield TypeMember(make, member.name or None, offset)

    def _member(
        self, index: int, width: int | None, last: bool
    ) -> Callable[[], drgn.Type | drgn.Object]:
        def make() -> drgn.Type | drgn.Object:
            from drgn import Object

            if width is not None:
                return Object(self.program, self.type(index), bit_field_size=width)
            return (self._flexible(index) if last else None) or self.type(index)

        return make

    def _flexible(self, index: int) -> drgn.Type | None:
        """The type without a length, if it is an array of none: a flexible array member.

        BTF does not tell `[]` from `[0]`, and of several dimensions it has the product only.
        """
        from drgn import TypeKind

        of = self.type(index)
        if of.kind is not TypeKind.ARRAY or of.length:
            return None
        return self.program.array_type(of.type, qualifiers=of.qualifiers)

    def _old_bit_field(self, index: int) -> tuple[int | None, int]:
        """(width, offset) that an INT says: before Linux 5.0 bit fields had INTs of their own."""
        of = self.btf.type(index)
        for _ in range(_DEEPEST):
            if of.kind not in _ALIASES:
                break
            of = self.btf.type(of.value)
        if of.kind is not Kind.INT:
            return None, 0
        integer = self.btf.integer(of)
        if integer.bits == 8 * of.value and not integer.offset:
            return None, 0
        return integer.bits, integer.offset

    @cached_property
    def constants(self) -> Mapping[str, tuple[int, int]]:
        """Name of an enumerator -> (id of its enum, value); of several the first."""
        found: dict[str, tuple[int, int]] = {}
        for of in self.btf.of_kind(Kind.ENUM, Kind.ENUM64):
            for name, value in self.btf.enumerators(of):
                found.setdefault(name, (of.id, value))
        return found

    @cached_property
    def variables(self) -> Mapping[str, int]:
        """Name of a variable -> id of its type."""
        return {of.name: of.value for of in self.btf.of_kind(Kind.VAR)}


def find(types: Iterable[BtfTypes], name: str, kinds: frozenset[Kind]) -> drgn.Type | None:
    """The first type of a name in several BTFs: one with a body before a mere declaration."""
    found = (each.find(name, kinds) for each in types)
    return next((of for of in found if of is not None), None)
