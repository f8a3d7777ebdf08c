"""kallsyms in memory: told by VMCOREINFO, found by shape, damaged."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phypan.errors import NotInDump
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.linux import kallsyms
from tests.damage import flipped
from tests.formats.kallsyms_image import pack

START = 0xC000000000000000
SYMBOLS = [(START, "T_stext"), *((START + 0x40 * n, f"tsymbol_{n}") for n in range(1, 600))]
AT = START + 0x4000


class Memory:
    """Memory that begins with nothing, and then has the tables."""

    def __init__(self, image: bytes) -> None:
        self.data = bytes(AT - START) + image

    def read(self, address: int, size: int) -> bytes:
        at = address - START
        if not 0 <= at <= at + size <= len(self.data):
            raise NotInDump(at & (1 << 64) - 1, "absent", "nothing is there")
        return self.data[at : at + size]

    def read_some(self, address: int, size: int) -> bytes:
        at = address - START
        return self.data[at : at + size] if at >= 0 else b""


def told(layout, **changes: int) -> Vmcoreinfo:
    """VMCOREINFO as kernel/vmcore_info.c writes it since 6.0."""
    addresses = "addresses" if layout.encoding == "absolute" else "offsets"
    places = {
        "num_syms": 8, "names": layout.names, "token_table": layout.token_table,
        "token_index": layout.token_index, addresses: layout.addresses,
        "relative_base": layout.base,
    }  # fmt: skip
    lines = [f"SYMBOL(kallsyms_{name})={changes.get(name, AT + at):x}"
             for name, at in places.items() if at is not None]  # fmt: skip
    return Vmcoreinfo(f"SYMBOL(_stext)={START:x}\n{chr(10).join(lines)}\n".encode())


CASES = [(encoding, order) for encoding in ("absolute", "relative", "per-CPU", "place")
         for order in ("little", "big")]  # fmt: skip


@pytest.mark.parametrize(("encoding", "order"), CASES)
def test_they_are_read_where_vmcoreinfo_says(encoding, order) -> None:
    image, layout = pack(SYMBOLS, order, encoding=encoding, at=AT)
    table, problems = kallsyms.read(Memory(image), order, told(layout))
    assert problems == []
    assert list(zip(table.addresses, table.names, strict=True)) == SYMBOLS


@pytest.mark.parametrize(("encoding", "order"), CASES)
@pytest.mark.parametrize("last", [True, False])
def test_they_are_found_by_their_shape(encoding, order, last) -> None:
    """The addresses stood before the names until 6.3."""
    if encoding == "place" and not last:
        pytest.skip("no kernel had them so")
    image, _ = pack(SYMBOLS, order, encoding=encoding, at=AT, addresses_last=last)
    info = Vmcoreinfo(f"SYMBOL(_stext)={START:x}\n".encode())
    table, _ = kallsyms.read(Memory(image), order, info)
    assert list(zip(table.addresses, table.names, strict=True)) == SYMBOLS


@pytest.mark.parametrize("name", ["num_syms", "names", "token_table", "token_index", "offsets"])
@pytest.mark.parametrize("address", [0, AT, AT + 12, (1 << 64) - 1, START + (1 << 40)])
def test_wild_addresses_in_vmcoreinfo_are_not_followed(name, address) -> None:
    """The tables are found by their shape then."""
    image, layout = pack(SYMBOLS, "little", at=AT)
    table, problems = kallsyms.read(Memory(image), "little", told(layout, **{name: address}))
    assert table is not None or problems
    if table is not None:
        assert (START, "T_stext") in zip(table.addresses, table.names, strict=True)


@pytest.mark.parametrize("count", [0, 1, 599, 601, 1 << 20, (1 << 32) - 1])
def test_absurd_counts_take_no_time(count) -> None:
    image, layout = pack(SYMBOLS, "little", at=AT)
    damaged = image[:8] + count.to_bytes(4, "little") + image[12:]
    start = time.process_time()
    table, problems = kallsyms.read(Memory(damaged), "little", told(layout))
    assert time.process_time() - start < 3
    assert table is None or len(table) <= 601
    assert table is not None or problems[-1].what == "not found"


@settings(max_examples=60)
@given(st.sampled_from(CASES), st.data())
def test_damaged_tables_are_read_or_a_problem(case, data) -> None:
    encoding, order = case
    image, layout = pack(SYMBOLS[:40], order, encoding=encoding, at=AT)
    damaged = data.draw(flipped(image))
    for info in (told(layout), None):
        table, problems = kallsyms.read(Memory(damaged), order, info)
        assert table is not None or problems
        assert table is None or list(table.addresses) == sorted(table.addresses)


@settings(max_examples=40)
@given(st.binary(max_size=4000))
def test_any_memory_has_symbols_or_a_problem(data) -> None:
    table, problems = kallsyms.read(Memory(data), "big", None)
    assert table is not None or problems[-1].what == "not found"
