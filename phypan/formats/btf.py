"""BTF, BPF Type Format: the types of a kernel, as the kernel itself carries them.

Linux include/uapi/linux/btf.h and Documentation/bpf/btf.rst. A header, types of varying length in
order of their ids, which count from 1 (0 is void), and strings. Integers are in the byte order of
the kernel. The types of a module are split off: their ids and strings go on where those of vmlinux,
their base, end. Reading looks at nothing but the heads of types; what a type holds is decoded when
it is asked for.
"""

from __future__ import annotations

import struct
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import chain

from phypan.errors import BadRecord, Problem
from phypan.formats._records import STRUCT_ORDER, ByteOrder, Bytes

MAGIC = 0xEB9F
HEADER_SIZE = 24  # bytes of magic, version, flags, hdr_len and the four offsets and lengths
_HEAD = 12  # bytes of struct btf_type: name_off, info, size or type


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
_ONCE_SIZE = tuple(4 * _ONCE.get(Kind(kind), 0) for kind in range(len(Kind)))
_EACH_SIZE = tuple(4 * _EACH.get(Kind(kind), 0) for kind in range(len(Kind)))

_FLAG = 0x80  # kind_flag, in a byte with a kind
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


class Btf:
    """The types in `data`, which may go on after its end: what is behind them is not looked at.

    base  the BTF of vmlinux, for a module's

    Raises BadRecord when there is no header. Types that cannot be told apart are left out from
    there on, and `problems` says so.
    """

    def __init__(self, data: Bytes, order: ByteOrder, base: Btf | None = None) -> None:
        self.order: ByteOrder = order
        self.base = base
        self.problems: list[Problem] = []
        where = "BTF" if base is None else "BTF of a module"
        types, strings = _sections(data, order, where)
        self._types = bytes(types)
        self._strings = bytes(strings)
        self.first_id = 1 if base is None else base.end_id
        self._first_string = 0 if base is None else base.strings_end
        self._words = struct.Struct(STRUCT_ORDER[order] + "3I").unpack_from
        self._kinds = bytearray()  # of each type, kind_flag in the top bit
        self._offsets, self._names = self._index(where)

    @property
    def end_id(self) -> int:
        """The id behind the last one."""
        return self.first_id + len(self._offsets)

    @property
    def strings_end(self) -> int:
        """The offset behind the last string, counted from the base's first."""
        return self._first_string + len(self._strings)

    def __len__(self) -> int:
        """How many types there are, those of the base not counted."""
        return len(self._offsets)

    def __iter__(self) -> Iterator[Type]:
        """The types in order, those of the base not."""
        return (self.type(index) for index in range(self.first_id, self.end_id))

    def _index(self, where: str) -> tuple[array[int], array[int]]:
        """(offset of each type, offset of the name of each)."""
        offsets, names, kinds = array("I"), array("I"), self._kinds
        data, words, at, end = self._types, self._words, 0, len(self._types)
        while at + _HEAD <= end:
            name, info, _ = words(data, at)
            kind = info >> 24 & 0x1F
            if not 0 < kind < len(_ONCE_SIZE):
                break
            size = _HEAD + _ONCE_SIZE[kind] + _EACH_SIZE[kind] * (info & 0xFFFF)
            if at + size > end:
                break
            offsets.append(at)
            names.append(name)
            kinds.append(info >> 24 & 0x9F)
            at += size
        if at < end:
            what = f"no type at byte {at:#x} of {end:#x}"
            meaning = f"types from id {self.first_id + len(offsets)} on are lost"
            self.problems.append(Problem(what, where, meaning))
        return offsets, names

    def of_kind(self, *kinds: Kind) -> Iterator[Type]:
        """The types of some kinds, those of the base not."""
        wanted = {*kinds, *(kind | _FLAG for kind in kinds)}
        for index, kind in enumerate(self._kinds, self.first_id):
            if kind in wanted:
                yield self.type(index)

    @cached_property
    def tells_signs(self) -> bool:
        """Whether enums say if they are signed, as since Linux 6.0."""
        newer = (Kind.ENUM | _FLAG, Kind.ENUM64, Kind.ENUM64 | _FLAG)
        return any(kind in self._kinds for kind in newer)

    def string(self, offset: int) -> str:
        """The string at `offset`; BadRecord beyond the end."""
        if self.base is not None and offset < self._first_string:
            return self.base.string(offset)
        at = offset - self._first_string
        end = self._strings.find(b"\0", at) if 0 <= at < len(self._strings) else -1
        if end < 0:
            raise BadRecord(f"no string at {offset:#x}", where="BTF")
        return self._strings[at:end].decode("utf-8", "backslashreplace")

    def type(self, index: int) -> Type:
        """The type of an id; BadRecord if there is none."""
        if index == 0:
            return Type(0, Kind.VOID, "", 0, False, 0)
        if self.base is not None and index < self.first_id:
            return self.base.type(index)
        if not self.first_id <= index < self.end_id:
            raise BadRecord(f"no type {index}, they end at {self.end_id}", where="BTF")
        name, info, value = self._words(self._types, self._offsets[index - self.first_id])
        kind, count = Kind(info >> 24 & 0x1F), info & 0xFFFF
        return Type(index, kind, self.string(name), count, bool(info >> 31), value)

    @cached_property
    def _by_name(self) -> Mapping[int, Sequence[int]]:
        """Ids of the types whose name is at an offset."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for index, name in enumerate(self._names, self.first_id):
            found[name].append(index)
        return found

    def find(self, name: str) -> Sequence[int]:
        """The ids of all types of a name, those of the base not."""
        ids = (self._by_name.get(offset, ()) for offset in self._all_strings(name.encode() + b"\0"))
        return sorted(chain.from_iterable(ids))

    def _all_strings(self, text: bytes) -> Iterator[int]:
        """Offsets at which `text` stands: of a string, or the end of a longer one."""
        if self.base is not None:
            yield from self.base._all_strings(text)
        at = self._strings.find(text)
        while at >= 0:
            yield self._first_string + at
            at = self._strings.find(text, at + 1)

    def _body(self, index: int, words: int, count: int) -> Iterator[tuple[int, ...]]:
        """`count` groups of `words` words that follow the head of a type."""
        if self.base is not None and index < self.first_id:
            return self.base._body(index, words, count)
        start = self._offsets[index - self.first_id] + _HEAD
        layout = struct.Struct(f"{STRUCT_ORDER[self.order]}{words}I")
        return layout.iter_unpack(self._types[start : start + layout.size * count])

    def integer(self, of: Type) -> Integer:
        """What an INT is."""
        ((word,),) = self._body(of.id, 1, 1)
        return Integer(word >> 24 & 0xF, word >> 16 & 0xFF, word & 0xFF)

    def array(self, of: Type) -> Array:
        """What an ARRAY is."""
        ((kind, index_type, length),) = self._body(of.id, 3, 1)
        return Array(kind, index_type, length)

    def members(self, of: Type) -> Sequence[Member]:
        """The members of a STRUCT or UNION."""
        members = []
        for name, kind, offset in self._body(of.id, 3, of.count):
            width = offset >> 24 if of.flag else 0
            at = offset & 0xFFFFFF if of.flag else offset
            members.append(Member(self.string(name), kind, at, width or None))
        return members

    def enumerators(self, of: Type) -> Sequence[tuple[str, int]]:
        """(name, value) of an ENUM or ENUM64."""
        wide = of.kind is Kind.ENUM64
        bits = 64 if wide else 32
        found = []
        for name, *halves in self._body(of.id, 3 if wide else 2, of.count):
            value = halves[0] | (halves[1] << 32 if wide else 0)
            # Before Linux 6.0 no flag told signs: libbpf takes all values of that time as signed.
            if (of.flag or not (wide or self.tells_signs)) and value >> (bits - 1):
                value -= 1 << bits
            found.append((self.string(name), value))
        return found

    def parameters(self, of: Type) -> Sequence[tuple[str, int]]:
        """(name, type's id) of a FUNC_PROTO's; one without a name of type 0 stands for "..."."""
        pairs = self._body(of.id, 2, of.count)
        return [(self.string(name), kind) for name, kind in pairs]

    def variables(self, of: Type) -> Sequence[Variable]:
        """The variables of a DATASEC."""
        return [Variable(*words) for words in self._body(of.id, 3, of.count)]


def looks_like(head: Bytes, order: ByteOrder) -> int | None:
    """Bytes of the BTF that begins with `head`; None if none does.

    The header must be the kernel's: version 1, no flags, types at once, strings behind them.
    """
    if len(head) < HEADER_SIZE:
        return None
    magic, version, flags, *lengths = struct.unpack_from(STRUCT_ORDER[order] + "HBB5I", head)
    size, types_at, types_size, strings_at, strings_size = lengths
    known = (magic, version, flags, types_at) == (MAGIC, 1, 0, 0) and size >= HEADER_SIZE
    if not known or strings_at < types_size or size > 256 or not strings_size:
        return None
    return int(size + strings_at + strings_size)


def _sections(data: Bytes, order: ByteOrder, where: str) -> tuple[memoryview, memoryview]:
    """The types and the strings."""
    if len(data) < HEADER_SIZE:
        raise BadRecord(f"{len(data)} bytes where a header needs {HEADER_SIZE}", where=where)
    head = struct.unpack_from(STRUCT_ORDER[order] + "HBB5I", data)
    magic, version, _, size, types_at, types_size, strings_at, strings_size = head
    if magic != MAGIC or version != 1:
        raise BadRecord(f"magic {magic:#06x}, version {version}", where=where)
    view = memoryview(data)
    sections = ((size + types_at, types_size), (size + strings_at, strings_size))
    for start, length in sections:
        if size < HEADER_SIZE or start + length > len(view):
            what = f"bytes {start:#x} to {start + length:#x} of {len(view):#x}"
            raise BadRecord(what, where=where)
    types, strings = (view[start : start + length] for start, length in sections)
    return types, strings
