"""Types out of the BTF in a dump are the types that DWARF gives of the same kernel."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phypan
from phypan.errors import BadRecord
from phypan.formats.btf import Btf
from phypan.formats.btf_kinds import Kind
from phypan.linux import variables
from phypan.linux.types import BtfTypes
from tests.formats.test_btf import image
from tests.linux.same_types import differences

drgn = pytest.importorskip("drgn")

KEYWORDS = {Kind.STRUCT: "struct ", Kind.UNION: "union ", Kind.ENUM: "enum ", Kind.TYPEDEF: ""}
# Two structs have the same name: cache_type_info, and of_bus, which the other refers to.
AMBIGUOUS = {"struct cache_type_info", "struct of_pci_range_parser"}


@pytest.fixture(params=["le-radix10", "be-radix9"])
def pair(request, real_dump):
    """(the dump by its BTF, the same dump by DWARF)."""
    real = real_dump(request.param)
    with (
        phypan.open(real.path) as ours,
        phypan.open(real.path, symbols=[real.vmlinux]) as theirs,
    ):
        assert (ours.types, theirs.types) == ("BTF", "DWARF")
        yield ours, theirs


def test_all_named_types_of_the_kernel_are_those_of_dwarf(pair) -> None:
    ours, theirs = pair
    seen, found, compared, unknown = set(), [], 0, []
    for one in ours.kernel.btf:
        if not one.name or one.kind not in KEYWORDS:
            continue
        name = KEYWORDS[one.kind] + one.name
        try:
            truth = theirs.program.type(name)
        except LookupError:
            unknown.append(name)
            continue
        compared += 1
        found += differences(ours.program.type(name), truth, name, seen)
    assert compared > 4000
    assert len(unknown) < 5, "names that drgn does not find in DWARF"
    assert [each for each in found if each.split(":")[0].split(".")[0] not in AMBIGUOUS] == []


def test_variables_have_the_types_of_dwarf(pair) -> None:
    ours, theirs = pair
    compared, found, seen = 0, [], set()
    for name in variables.declarations():
        try:
            mine, truth = (each.program.variable(name) for each in (ours, theirs))
        except LookupError:
            continue
        compared += 1
        assert mine.address_ == truth.address_, name
        found += differences(unconst(mine.type_), unconst(truth.type_), name, seen)
    assert compared > 90
    # It has a length where it is defined, another in the place that builds take from the weak
    # definition, and none in the header: drgn takes any of them.
    assert [each for each in found if not each.startswith("linux_banner: 176 elements")] == []


def unconst(of):
    """Without the qualifiers that a table of types may leave out, but for those of members."""
    if of.kind is drgn.TypeKind.ARRAY:
        return of.prog.array_type(unconst(of.type), of.length)
    if of.kind is drgn.TypeKind.POINTER:
        return of.prog.pointer_type(unconst(of.type))
    return of.unqualified()


def test_per_cpu_variables_are_typed_by_btf(pair) -> None:
    ours, theirs = pair
    for name in ("runqueues", "hrtimer_bases", "irq_stat"):
        mine, truth = (each.program.variable(name) for each in (ours, theirs))
        assert mine.address_ == truth.address_
        assert list(differences(mine.type_, truth.type_, name, set())) == []


def test_functions_have_the_types_and_addresses_of_dwarf(pair) -> None:
    ours, theirs = pair
    for name in ("schedule", "panic", "vfs_write", "do_exit"):
        mine, truth = (each.program.function(name) for each in (ours, theirs))
        assert mine.address_ == truth.address_, name
        assert list(differences(mine.type_, truth.type_, name, set())) == []


def test_enumerators_are_constants(pair) -> None:
    for name in ("PIDTYPE_MAX", "NR_FREE_PAGES", "PG_locked", "TCP_ESTABLISHED"):
        mine, truth = (each.program.constant(name) for each in pair)
        assert mine.value_() == truth.value_()


def test_what_is_unknown_is_not_found(pair) -> None:
    ours, _ = pair
    for ask in (ours.program.type, ours.program.variable, ours.program.function):
        with pytest.raises(LookupError):
            ask("no_such_thing")


# -- damaged -------------------------------------------------------------------------------------


@pytest.fixture
def program():
    flags = drgn.PlatformFlags.IS_64_BIT | drgn.PlatformFlags.IS_LITTLE_ENDIAN
    return drgn.Program(drgn.Platform(drgn.Architecture.PPC64, flags))


@pytest.mark.parametrize("kind", [2, 8, 9, 10])  # PTR TYPEDEF VOLATILE CONST
def test_a_type_that_refers_to_itself_is_refused(program, kind) -> None:
    data = image("little", struct.pack("<3I", 1, kind << 24, 1), b"\0a\0")
    with pytest.raises(BadRecord, match="refers to itself"):
        BtfTypes(program, Btf(data, "little")).type(1)


def test_a_struct_in_itself_can_be_made_but_not_followed_for_ever(program) -> None:
    body = struct.pack("<3I3I", 1, 4 << 24 | 1, 8, 1, 1, 0)
    types = BtfTypes(program, Btf(image("little", body, b"\0a\0"), "little"))
    made = types.type(1)
    assert made.members[0].type.members[0].type.size == 8


@settings(max_examples=40)
@given(st.binary(max_size=300))
def test_any_bytes_make_types_or_a_reason(data) -> None:
    flags = drgn.PlatformFlags.IS_64_BIT | drgn.PlatformFlags.IS_LITTLE_ENDIAN
    program = drgn.Program(drgn.Platform(drgn.Architecture.PPC64, flags))
    types = BtfTypes(program, Btf(image("little", data, b"\0a\0bc\0"), "little"))
    for index in range(types.btf.end_id):
        try:
            made = types.type(index)
            for member in getattr(made, "members", None) or ():
                str(member.type)
        except (BadRecord, ValueError, TypeError):
            continue
