"""kallsyms: the tables of a real kernel, of every layout since 2.6.10, and damaged ones."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import kallsyms
from tests.formats.kallsyms_image import pack

TEXT = 0xC000000000000000
ENCODINGS = ("absolute", "relative", "per-CPU", "place")


def decoded(image: bytes, layout: kallsyms.Layout, order: str, at: int = 0) -> list:
    """What a reader makes of the tables at `layout`."""
    tokens = kallsyms.read_tokens(
        image[layout.token_table :], image[layout.token_index :][: kallsyms.INDEX_SIZE], order
    )
    names = kallsyms.read_names(image[layout.names :], layout.count, tokens)
    base = at + layout.addresses
    if layout.base is not None:
        base = int.from_bytes(image[layout.base : layout.base + 8], order)
    addresses = kallsyms.read_addresses(
        image[layout.addresses :], layout.count, order, layout.encoding, base
    )
    return list(zip(addresses, names, strict=True))


@pytest.mark.parametrize("name", ["le", "be"])
def test_the_tables_of_a_real_kernel_are_what_nm_prints(name, real_dump, peer) -> None:
    real = real_dump({"le": "le-radix10", "be": "be-radix9"}[name])
    order = {"le": "little", "be": "big"}[name]
    image = real.vmlinux.read_bytes()[: 16 << 20]
    layout = next(kallsyms.find(image, order))
    assert layout.base is not None
    found = decoded(image, kallsyms.Layout(**{**vars(layout), "encoding": "relative"}), order)
    listed = subprocess.check_output([peer("nm"), real.vmlinux], text=True)
    lines = (line.split() for line in listed.splitlines())
    expected = {(int(line[0], 16), line[2]) for line in lines if len(line) == 3}
    names = {(address, text[1:]) for address, text in found}
    assert len(names) > 30000
    # the kernel drops some of nm's (local labels), and adds none
    assert names <= expected
    assert len(names) > 0.7 * len(expected)


def test_the_layouts_that_are_tried_begin_with_the_newest(real_dump) -> None:
    image = real_dump("le-radix10").vmlinux.read_bytes()[: 16 << 20]
    layouts = list(kallsyms.find(image, "little"))
    assert layouts[0].base is not None
    assert layouts[0].addresses > layouts[0].token_index


def some_symbols(count: int) -> list[tuple[int, str]]:
    return [(TEXT + 0x40 * n, f"{'TtDdBb'[n % 6]}symbol_{n}") for n in range(count)]


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(
    ("encoding", "addresses_last"),
    [*((encoding, True) for encoding in ENCODINGS), *((e, False) for e in ENCODINGS[:3])],
)
@pytest.mark.parametrize("marker_size", [4, 8])
def test_every_layout_is_found_by_its_shape(order, encoding, addresses_last, marker_size) -> None:
    symbols = some_symbols(700)
    tables, layout = pack(
        symbols,
        order,
        encoding=encoding,
        at=TEXT + 0x1000,
        addresses_last=addresses_last,
        marker_size=marker_size,
    )
    image = b"\1" * 0x1000 + tables + b"\2" * 64
    candidates = list(kallsyms.find(image, order))
    places = {(c.count, c.names, c.token_table, c.token_index) for c in candidates}
    moved = layout.moved(0x1000)
    assert places == {(moved.count, moved.names, moved.token_table, moved.token_index)}
    assert (moved.addresses, moved.base) in {(c.addresses, c.base) for c in candidates}
    assert decoded(image, moved, order, TEXT) == symbols


texts = st.text("abcdefghijklmnop_.0123456789", min_size=1, max_size=300)
symbol_lists = st.lists(
    st.tuples(st.integers(0, 1 << 28), st.sampled_from("TtDdBbRrWw"), texts),
    min_size=1,
    max_size=20,
)


@given(
    wanted=symbol_lists,
    order=st.sampled_from(["big", "little"]),
    encoding=st.sampled_from(ENCODINGS),
    last=st.booleans(),
)
def test_what_is_packed_is_read(wanted, order, encoding, last) -> None:
    symbols = sorted((TEXT + offset, kind + name) for offset, kind, name in wanted)
    tables, layout = pack(symbols, order, encoding=encoding, at=TEXT, addresses_last=last)
    assert decoded(tables, layout, order, TEXT) == symbols


@given(data=st.binary(max_size=300), count=st.integers(0, 1 << 23))
def test_any_bytes_as_names_end_with_the_bytes(data, count) -> None:
    names = kallsyms.read_names(data, count, [b"x" * 3] * 256)
    assert len(names) <= min(count, len(data))


@given(table=st.binary(max_size=600), index=st.binary(min_size=512, max_size=512))
def test_any_bytes_as_tokens_end_in_tokens_or_a_reason(table, index) -> None:
    try:
        tokens = kallsyms.read_tokens(table, index, "little")
    except BadRecord:
        return
    assert len(tokens) == 256


@given(st.binary(max_size=3000), st.sampled_from(["big", "little"]))
def test_any_bytes_around_the_digits_are_survived(data, order) -> None:
    digits = b"".join(b"%d\0" % n for n in range(10))
    for layout in kallsyms.find(data[:1500] + digits + data[1500:], order):
        assert 0 < layout.count <= kallsyms.MAX_SYMBOLS


def test_too_few_addresses_are_refused() -> None:
    with pytest.raises(BadRecord, match="addresses"):
        kallsyms.read_addresses(bytes(100), 26, "little", "relative", 0)


def test_a_token_without_an_end_is_refused() -> None:
    with pytest.raises(BadRecord, match="no end"):
        kallsyms.read_tokens(b"abc", bytes(512), "little")
