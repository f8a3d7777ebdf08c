"""Types of the crashed kernel, and objects of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Bytes, Dump, Hex, Problem, Unsupported, hookimpl

if TYPE_CHECKING:
    import drgn

_KEYWORDS = ("struct", "union", "enum", "")  # in which a name is looked for
_MOST = 1 << 16  # bytes of a member whose value is shown
_LONGEST = 4096  # characters of a value
_STEP = re.compile(r"(?:->|\.)?(?P<name>[A-Za-z_]\w*)|\[(?P<index>\d+)\]")


@dataclass(frozen=True)
class StructRow:
    """A member of a type, or a value of an enumeration."""

    member: str
    type: str
    offset: Hex | None  # bytes from the start of what was asked for; of a bit field, of its first
    size: Bytes | None  # None for what has none: flexible arrays, bit fields
    bit: int | None  # of a bit field: its first bit, counted from the start of that byte
    bits: int | None  # and how many
    address: Address | None  # effective, where an object was asked for
    value: str | None  # there; or of an enumerator


def struct(
    dump: Dump, name: str, place: str | None = None, *, member: str = "", deep: bool = False
) -> Iterator[StructRow]:
    """Show the layout of a type NAME; with PLACE, an address or symbol, the object there.

    A NAME that is a variable's, and no type's, shows that.
    member  a way from there: "mm->pgd", "comm", "cpus_mask.bits[0]"
    deep    the members of structures in it too
    """
    from phypan.linux import places, walk

    wrong: tuple[type[Exception], ...] = (*walk.faults(), SyntaxError)  # the name's, in C
    try:
        found = _type(dump.program, name)
        if found is None:
            subject = dump.program.variable(name)
        elif place is None:
            yield from _layout(found, member, deep)
            return
        else:
            subject = _object(dump, found, places.address(dump, place))
        for step in _steps(member):
            subject = _next(subject, step)
        yield from _values(dump, subject, member, deep)
    except wrong as error:
        if isinstance(error, Unsupported):
            raise
        where = f"{name} {place or ''}{' ' + member if member else ''}".strip()
        raise Unsupported(walk.reason(error), where=where) from error


def _type(program: drgn.Program, name: str) -> drgn.Type | None:
    """A type by its name in C, with or without its keyword; None if it is a variable's."""
    if name.startswith(tuple(f"{keyword} " for keyword in _KEYWORDS if keyword)):
        return program.type(name)
    for keyword in _KEYWORDS:
        try:
            return program.type(f"{keyword} {name}".strip())
        except (LookupError, SyntaxError):  # "struct unsigned long" is no name
            continue
    if name in program:
        return None
    hint = "`phypan symbol` finds names; types of modules are known if they have BTF"
    raise Unsupported(f"the kernel has no type and no variable {name!r}", hint=hint)


def _object(dump: Dump, of: drgn.Type, address: int) -> drgn.Object:
    from drgn import Object

    return Object(dump.program, of, address=address)


# --- the way to a member ---


def _steps(path: str) -> list[str | int]:
    """Names and indexes of a way like "a.b[2]->c"."""
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise Unsupported(f"{path[at:]!r} is no member", where=path)
        steps.append(match["name"] or int(match["index"]))
        at = match.end()
    return steps


def _next(subject: drgn.Object, step: str | int) -> drgn.Object:
    return subject[step] if isinstance(step, int) else subject.member_(step)


def _bare(of: drgn.Type) -> drgn.Type:
    """What a typedef stands for."""
    from drgn import TypeKind

    while of.kind == TypeKind.TYPEDEF:
        of = of.type
    return of


def _followed(of: drgn.Type, step: str | int) -> tuple[drgn.Type, int, bool]:
    """(type of a step, its offset, whether that counts from where a pointer led to)."""
    from drgn import TypeKind

    of = _bare(of)
    through = of.kind == TypeKind.POINTER
    if isinstance(step, int):
        return of.type, step * (_size(of.type) or 0), through
    member = (_bare(of.type) if through else of).member(step)
    return member.type, member.offset, through


# --- layouts ---


def _layout(of: drgn.Type, path: str, deep: bool) -> Iterator[StructRow]:
    base = 0
    for step in _steps(path):
        of, offset, through = _followed(of, step)
        base = offset if through else base + offset
    bare = _bare(of)
    if bare.kind in _enumerations():
        for name, value in bare.enumerators or ():
            yield StructRow(name, of.type_name(), None, None, None, None, None, str(value))
        return
    if bare.kind not in _structures():
        size = _size(of)
        yield StructRow(path or of.type_name(), of.type_name(), base, size, None, None, None, None)
        return
    for name, member, bit_offset, bits in _members(bare, path, 8 * base, deep):
        offset, bit = divmod(bit_offset, 8)
        is_field = bits is not None
        size = None if is_field else _size(member)
        row = StructRow(name, member.type_name(), offset, size, None, None, None, None)
        yield _with_bits(row, bit, bits) if is_field else row


def _with_bits(row: StructRow, bit: int, bits: int | None) -> StructRow:
    from dataclasses import replace

    return replace(row, bit=bit, bits=bits)


def _structures() -> tuple[drgn.TypeKind, ...]:
    from drgn import TypeKind

    return TypeKind.STRUCT, TypeKind.UNION, TypeKind.CLASS


def _enumerations() -> tuple[drgn.TypeKind, ...]:
    from drgn import TypeKind

    return (TypeKind.ENUM,)


def _members(
    of: drgn.Type, path: str, base: int, deep: bool, level: int = 0
) -> Iterator[tuple[str, drgn.Type, int, int | None]]:
    """(name, type, offset in bits, bits of a bit field); those of unnamed structures as C has them.

    C cannot nest types in circles, but damaged BTF may: what is deeper than 32 is not opened.
    """
    for member in of.members or ():
        name = f"{path}.{member.name}" if path and member.name else member.name or path
        at, bare = base + member.bit_offset, _bare(member.type)
        opens = bare.kind in _structures() and bare.members and level < 32
        if opens and (deep or member.name is None):
            yield from _members(bare, name, at, deep, level + 1)
        else:
            yield name, member.type, at, member.bit_field_size


def _size(of: drgn.Type) -> int | None:
    from drgn import sizeof

    try:
        return int(sizeof(of))
    except TypeError:
        return None


# --- objects ---


def _values(dump: Dump, subject: drgn.Object, path: str, deep: bool) -> Iterator[StructRow]:
    from phypan.linux import walk

    bare = _bare(subject.type_)
    if bare.kind not in _structures() or subject.address_ is None:
        yield _value(dump, subject, path or subject.type_.type_name(), 0)
        return
    start = int(subject.address_)

    def row(found: tuple[str, drgn.Type, int, int | None]) -> StructRow:
        from drgn import Object

        name, of, at, bits = found
        place, bit = start + at // 8, at % 8
        fields = {} if bits is None else {"bit_offset": bit, "bit_field_size": bits}
        there = Object(dump.program, of, address=place, **fields)
        return _value(dump, there, name, at // 8)

    found = _members(bare, "", 0, deep)
    yield from walk.each(dump.problems, found, row, subject.type_.type_name())


def _value(dump: Dump, there: drgn.Object, name: str, offset: int) -> StructRow:
    bits = there.bit_field_size_
    return StructRow(
        member=name,
        type=there.type_.type_name(),
        offset=offset,
        size=_size(there.type_) if bits is None else None,
        bit=None if bits is None else there.bit_offset_,
        bits=bits,
        address=there.address_,
        value=_shown(dump, there, name),
    )


def _shown(dump: Dump, there: drgn.Object, name: str) -> str | None:
    """The value in C's words; a pointer with what it points to, where that has a name."""
    from drgn import TypeKind

    from phypan.linux import walk

    size = _size(there.type_)
    if size is not None and size > _MOST:
        what = f"{name}: {size} bytes"
        dump.problems.append(Problem(what, "struct", "its value is not shown"))
        return None
    try:
        if _bare(there.type_).kind == TypeKind.POINTER:
            named = dump.symbols.describe(int(there))
            return f"{int(there):#x} <{named}>" if named else f"{int(there):#x}"
        text: str = there.format_(
            columns=1 << 16, type_name=False, member_type_names=False, element_type_names=False,
            dereference=False, members_same_line=True, elements_same_line=True,
        )  # fmt: skip
    except walk.faults() as error:
        dump.problems.append(Problem(walk.reason(error), name, "its value is not shown"))
        return None
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The types."""
    return [Analysis(struct, StructRow, needs=frozenset({"types"}))]
