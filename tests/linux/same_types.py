"""Whether two types of drgn's are the same, down to the last member."""

from __future__ import annotations

from collections.abc import Iterator

from drgn import Type, TypeKind

NAMED = {
    TypeKind.INT: "name",
    TypeKind.BOOL: "name",
    TypeKind.FLOAT: "name",
    TypeKind.TYPEDEF: "name",
    TypeKind.STRUCT: "tag",
    TypeKind.UNION: "tag",
    TypeKind.ENUM: "tag",
}


def differences(a: Type, b: Type, path: str, seen: set[tuple[TypeKind, str]]) -> Iterator[str]:
    """What differs between `a`, of BTF, and `b`, of DWARF; types with a name are gone into once.

    BTF does not tell `[]` from `[0]`, and has several dimensions of an array as their product:
    those are no differences.
    """
    if head(a) != head(b):
        yield f"{path}: {head(a)} is {head(b)}"
        return
    name = getattr(a, NAMED.get(a.kind, ""), None)
    if name and a.kind is not TypeKind.INT:
        if (a.kind, name) in seen:
            return
        seen.add((a.kind, name))
    yield from BODIES.get(a.kind, lambda *_: ())(a, b, path, seen)


def head(of: Type) -> tuple:
    return of.kind, getattr(of, NAMED.get(of.kind, ""), None), of.qualifiers


def number(a: Type, b: Type, path: str, seen) -> Iterator[str]:
    def shape(of: Type) -> tuple:
        return of.size, getattr(of, "is_signed", None), of.byteorder

    if shape(a) != shape(b):
        yield f"{path}: {shape(a)} is {shape(b)}"


def compound(a: Type, b: Type, path: str, seen) -> Iterator[str]:
    if (a.is_complete(), a.size) != (b.is_complete(), b.size):
        yield f"{path}: {a.size} bytes are {b.size}"
    if not a.is_complete() or not b.is_complete():
        return
    ours = [(m.name, m.bit_offset, m.bit_field_size) for m in a.members]
    theirs = [(m.name, m.bit_offset, m.bit_field_size) for m in b.members]
    if ours != theirs:
        yield f"{path}: members {ours} are {theirs}"
        return
    for x, y in zip(a.members, b.members, strict=True):
        yield from differences(x.type, y.type, f"{path}.{x.name}", seen)


def enum(a: Type, b: Type, path: str, seen) -> Iterator[str]:
    def shape(of: Type) -> tuple | None:
        if not of.is_complete():
            return None
        values = [(e.name, e.value) for e in of.enumerators]
        return values, of.type.name, of.type.size, of.type.is_signed

    if shape(a) != shape(b):
        yield f"{path}: {shape(a)} is {shape(b)}"


def array(a: Type, b: Type, path: str, seen) -> Iterator[str]:
    length, element = b.length, b.type
    while length and element.kind is TypeKind.ARRAY and element.length:
        length, element = length * element.length, element.type
    if (a.length or 0) != (length or 0):
        yield f"{path}: {a.length} elements are {length}"
    yield from differences(a.type, element, f"{path}[]", seen)


def behind(a: Type, b: Type, path: str, seen) -> Iterator[str]:
    yield from differences(a.type, b.type, f"{path}*", seen)


def function(a: Type, b: Type, path: str, seen) -> Iterator[str]:
    if (len(a.parameters), a.is_variadic) != (len(b.parameters), b.is_variadic):
        yield f"{path}: {a} is {b}"
        return
    yield from differences(a.type, b.type, f"{path}()", seen)
    for n, (x, y) in enumerate(zip(a.parameters, b.parameters, strict=True)):
        yield from differences(x.type, y.type, f"{path}({n})", seen)


BODIES = {
    TypeKind.INT: number,
    TypeKind.BOOL: number,
    TypeKind.FLOAT: number,
    TypeKind.STRUCT: compound,
    TypeKind.UNION: compound,
    TypeKind.ENUM: enum,
    TypeKind.ARRAY: array,
    TypeKind.POINTER: behind,
    TypeKind.TYPEDEF: behind,
    TypeKind.FUNCTION: function,
}
