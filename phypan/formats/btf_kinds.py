"""BTF's kinds of types, and what stands in each of them (phypan/formats/btf.py reads them)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """BTF_KIND_*."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# What follows the head of a type: words once, and words for each of its vlen elements.
_ONCE = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
_EACH = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.FUNC_PROTO: 2,
    Kind.DATASEC: 3,
    Kind.ENUM64: 3,
}
ONCE_SIZE = tuple(4 * _ONCE.get(Kind(kind), 0) for kind in range(len(Kind)))
EACH_SIZE = tuple(4 * _EACH.get(Kind(kind), 0) for kind in range(len(Kind)))

FLAG = 0x80  # kind_flag, in a byte with a kind
INT_SIGNED, INT_CHAR, INT_BOOL = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Type:
    """The head of a type.

    id     its number
    kind   what it is
    name   empty when it has none
    count  vlen: members, enumerators, parameters or variables; the linkage of a function
    flag   kind_flag: a forward declaration is of a union, an enum is signed, members say their
           offsets in the way of bit fields, a tag is an attribute
    value  bytes of INT, STRUCT, UNION, ENUM, ENUM64, FLOAT, DATASEC; for others the id of the type
           that they refer to
    """

    id: int
    kind: Kind
    name: str
    count: int
    flag: bool
    value: int


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer's encoding (INT_*), and the bits that old BTF used for bit fields."""

    encoding: int
    offset: int
    bits: int


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct or union: its type's id, its offset and width in bits.

    bit_field_size  None for a member that is no bit field
    """

    name: str
    type: int
    bit_offset: int
    bit_field_size: int | None


@dataclass(frozen=True, slots=True)
class Array:
    """Elements of a type, indexed by another; none for a flexible array member."""

    type: int
    index_type: int
    length: int


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable in a section: the id of its VAR, its offset in the section and its size."""

    type: int
    offset: int
    size: int
