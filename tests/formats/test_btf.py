"""BTF: what pahole and GCC write, all that can be written, and what is damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import btf
from phypan.formats.btf import Array, Btf, Kind, Member

GOLDEN = Path(__file__).parent.parent / "golden" / "btf"
ORDERS = {"le": "little", "be": "big"}


@pytest.fixture(params=["gcc-le", "gcc-be", "pahole-le", "pahole-be"])
def sample(request) -> Btf:
    """sample.c as a compiler or pahole sees it."""
    maker, order = request.param.split("-")
    return Btf((GOLDEN / f"{maker}-{order}.btf").read_bytes(), ORDERS[order])


def the(of: Btf, name: str, kind: Kind) -> btf.Type:
    (found,) = [of.type(index) for index in of.find(name) if of.type(index).kind is kind]
    return found


def test_members_of_a_struct(sample) -> None:
    members = {m.name: m for m in sample.members(the(sample, "sample", Kind.STRUCT))}
    assert list(members) == [
        *("a", "b", "c", "pointer", "matrix", "colour", "both", "", "call", "flag", "real", "rest")
    ]
    offsets = {name: member.bit_offset for name, member in members.items()}
    assert offsets["pointer"] == 64
    assert offsets["matrix"] == 128
    assert offsets["rest"] == 640
    widths = {name: member.bit_field_size for name, member in members.items()}
    assert [widths.pop(name) for name in "ab"] == [3, 5]
    assert set(widths.values()) == {None}
    assert (members["a"].bit_offset, members["b"].bit_offset) == (0, 3)


def test_a_chain_of_qualifiers(sample) -> None:
    members = {m.name: m for m in sample.members(the(sample, "sample", Kind.STRUCT))}
    kinds, of = [], sample.type(members["pointer"].type)
    while of.kind is not Kind.INT:
        kinds.append(of.kind)
        of = sample.type(of.value)
    assert kinds[:2] == [Kind.RESTRICT, Kind.PTR]
    assert set(kinds[2:4]) == {Kind.CONST, Kind.VOLATILE}
    assert kinds[4:] == [Kind.TYPEDEF]
    assert (of.name, of.value) in (("long unsigned int", 8), ("unsigned long", 8))


def test_enumerators_and_their_signs(sample) -> None:
    colour = the(sample, "colour", Kind.ENUM)
    assert sample.enumerators(colour) == [("RED", 1), ("GREEN", 2), ("BLUE", -3)]
    wide = [sample.type(index) for index in sample.find("big")]
    for of in wide:
        if of.kind is Kind.ENUM64:
            assert sample.enumerators(of) == [("HUGE_ONE", 0x123456789ABCDEF)]


def test_a_function_with_any_number_of_arguments(sample) -> None:
    members = {m.name: m for m in sample.members(the(sample, "sample", Kind.STRUCT))}
    proto = sample.type(sample.type(members["call"].type).value)
    assert proto.kind is Kind.FUNC_PROTO
    assert sample.parameters(proto)[-1] == ("", 0)
    assert len(sample.parameters(proto)) == 3


def test_a_forward_declaration_has_no_body(sample) -> None:
    assert the(sample, "later", Kind.FWD).flag is False


def test_a_flexible_array_has_no_elements(sample) -> None:
    rest = sample.members(the(sample, "sample", Kind.STRUCT))[-1]
    assert sample.array(sample.type(rest.type)).length == 0


def test_what_is_not_there(sample) -> None:
    assert sample.find("no_such_type") == []
    with pytest.raises(BadRecord, match="no type 100000"):
        sample.type(100000)
    with pytest.raises(BadRecord, match="no string"):
        sample.string(1 << 30)


def test_the_kernels_own(real) -> None:
    """pahole's BTF of a whole kernel: all types are told apart, none is left."""
    from elftools.elf.elffile import ELFFile

    with real.vmlinux.open("rb") as file:
        data = ELFFile(file).get_section_by_name(".BTF").data()
    found = Btf(data, ORDERS[real.name[:2]])
    assert not found.problems
    assert len(found) > 30000
    names = [m.name for m in found.members(the(found, "list_head", Kind.STRUCT))]
    assert names == ["next", "prev"]


# -- written by hand -----------------------------------------------------------------------------


def image(order: str, types: bytes, strings: bytes) -> bytes:
    o = ">" if order == "big" else "<"
    head = struct.pack(o + "HBB5I", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return head + types + strings


names = st.text("abcdefgh_", min_size=1, max_size=8)
members = st.tuples(names, st.integers(0, 1000), st.integers(0, (1 << 24) - 1), st.integers(0, 64))
heads = st.one_of(
    st.tuples(st.just("int"), names, st.integers(1, 16), st.integers(0, 7)),
    st.tuples(st.just("struct"), names, st.integers(0, 1 << 31), st.lists(members, max_size=4)),
    st.tuples(st.just("array"), st.integers(0, 99), st.integers(0, 99), st.integers(0, 1 << 31)),
    st.tuples(
        st.just("enum"),
        names,
        st.lists(st.tuples(names, st.integers(-(1 << 31), (1 << 31) - 1)), max_size=4),
    ),
    st.tuples(st.just("pointer"), st.integers(0, 1 << 31)),
)


def written(order: str, wanted: list[tuple]) -> bytes:
    """The bytes for `wanted`, put together as the format's document says."""
    o = ">" if order == "big" else "<"
    strings = bytearray(b"\0")

    def string(text: str) -> int:
        strings.extend(text.encode() + b"\0")
        return len(strings) - len(text) - 1

    types = b""
    for kind, *rest in wanted:
        if kind == "int":
            name, size, encoding = rest
            head = struct.pack(o + "3I", string(name), 1 << 24, size)
            types += head + struct.pack(o + "I", encoding << 24 | 8 * size)
        elif kind == "struct":
            name, size, parts = rest
            info = 1 << 31 | 4 << 24 | len(parts)
            types += struct.pack(o + "3I", string(name), info, size)
            for part, of, offset, width in parts:
                types += struct.pack(o + "3I", string(part), of, width << 24 | offset)
        elif kind == "array":
            types += struct.pack(o + "6I", 0, 3 << 24, 0, *rest)
        elif kind == "enum":
            name, values = rest
            types += struct.pack(o + "3I", string(name), 1 << 31 | 6 << 24 | len(values), 4)
            for value_name, value in values:
                types += struct.pack(o + "Ii", string(value_name), value)
        else:
            types += struct.pack(o + "3I", 0, 2 << 24, *rest)
    return image(order, types, bytes(strings))


def read_back(of: Btf, one: btf.Type) -> tuple:
    if one.kind is Kind.INT:
        return "int", one.name, one.value, of.integer(one).encoding
    if one.kind is Kind.STRUCT:
        parts = [
            (m.name, m.type, m.bit_offset, m.bit_field_size or 0)
            for m in of.members(one)
            if isinstance(m, Member)
        ]
        return "struct", one.name, one.value, parts
    if one.kind is Kind.ARRAY:
        array = of.array(one)
        assert isinstance(array, Array)
        return "array", array.type, array.index_type, array.length
    if one.kind is Kind.ENUM:
        return "enum", one.name, list(of.enumerators(one))
    return "pointer", one.value


@given(order=st.sampled_from(["big", "little"]), wanted=st.lists(heads, max_size=8))
def test_what_is_written_is_read(order, wanted) -> None:
    found = Btf(written(order, wanted), order)
    assert [read_back(found, one) for one in found] == wanted
    for one in found:
        assert not one.name or one.id in found.find(one.name)


@given(
    order=st.sampled_from(["big", "little"]),
    first=st.lists(heads, min_size=1, max_size=5),
    second=st.lists(heads, min_size=1, max_size=5),
)
def test_a_module_goes_on_where_vmlinux_ends(order, first, second) -> None:
    base = Btf(written(order, first), order)
    data = written(order, second)
    # strings of a split BTF count from the base's end: move every name by that
    probe = Btf(data, order)
    split = Btf(data, order, base)
    assert (split.first_id, len(split)) == (len(first) + 1, len(second))
    assert split.strings_end == base.strings_end + probe.strings_end
    assert split.type(1) == base.type(1)


@given(data=st.binary(max_size=400), order=st.sampled_from(["big", "little"]))
def test_any_bytes_as_types_end_in_a_reading_or_a_reason(data, order) -> None:
    found = Btf(image(order, data, b"\0abc\0"), order)
    for index in range(found.first_id, found.end_id):
        try:
            one = found.type(index)
            read_back(found, one)
        except BadRecord:
            continue
    known = sum(1 for _ in range(found.first_id, found.end_id))
    assert known <= len(data) // 12
    assert bool(found.problems) or known or not data


@pytest.mark.parametrize("order", ["le", "be"])
def test_a_cut_file_is_refused_with_a_reason(order) -> None:
    data = (GOLDEN / f"pahole-{order}.btf").read_bytes()
    for size in range(0, len(data), 7):
        with pytest.raises(BadRecord, match="BTF"):
            Btf(data[:size], ORDERS[order])


@pytest.mark.parametrize(("field", "size"), [(0, 2), (2, 1), (4, 4), (8, 4), (12, 4), (16, 4)])
@pytest.mark.parametrize("value", [0xFF, 0x7F])
def test_a_wild_header_is_refused(field, size, value) -> None:
    data = bytearray((GOLDEN / "pahole-le.btf").read_bytes())
    data[field : field + size] = bytes([value]) * size
    with pytest.raises(BadRecord):
        Btf(data, "little")


def test_looks_like_tells_the_size(sample) -> None:
    for file in GOLDEN.glob("*.btf"):
        order = ORDERS[file.stem[-2:]]
        data = file.read_bytes()
        assert btf.looks_like(data, order) == len(data)
        assert btf.looks_like(data[:20], order) is None
        assert btf.looks_like(bytes(24), order) is None
