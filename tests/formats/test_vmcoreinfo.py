"""VMCOREINFO: a real kernel's own, its lines and numbers, and where it stands in memory."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan import identify
from phypan.formats import elfcore, vmcoreinfo
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.memory import Extent, Memory
from phypan.stores import BytesStore

TEXT = b"""OSRELEASE=6.12.107-phypan-le64k
BUILD-ID=c07339d0facf3b2c5b8e1a0f
PAGESIZE=65536
SYMBOL(init_uts_ns)=c000000001b9e0f8
SYMBOL(_stext)=c000000000000000
SIZE(page)=64
OFFSET(page._refcount)=52
LENGTH(node_data)=256
NUMBER(NR_FREE_PAGES)=0
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
NUMBER(vmalloc_start)=0xc008000000000000
KERNELOFFSET=0
CRASHTIME=1795373042
"""


def test_lines_are_a_mapping() -> None:
    info = vmcoreinfo.read(TEXT + bytes(100) + b"PAGESIZE=1\n")
    assert info == Vmcoreinfo(TEXT)
    assert len(info) == 13
    assert list(info)[:2] == ["OSRELEASE", "BUILD-ID"]
    assert info["SYMBOL(_stext)"] == "c000000000000000"
    assert info.get("SYMBOL(nothing)") is None


def test_numbers_are_hexadecimal_where_the_kernel_prints_them_so() -> None:
    info = vmcoreinfo.read(TEXT)
    assert info.release == "6.12.107-phypan-le64k"
    assert info.build_id == "c07339d0facf3b2c5b8e1a0f"
    assert info.page_size == 65536
    assert info.crash_time == 1795373042
    assert info.symbol("init_uts_ns") == 0xC000000001B9E0F8
    assert info.size("page") == 64
    assert info.offset("page._refcount") == 52
    assert info.length("node_data") == 256
    assert info.number("NR_FREE_PAGES") == 0
    assert info.number("PAGE_BUDDY_MAPCOUNT_VALUE") == -129
    assert info.number("vmalloc_start") == 0xC008000000000000


def test_what_the_kernel_does_not_say_is_none() -> None:
    info = vmcoreinfo.read(b"PAGESIZE=what\nCRASHTIME=\nNUMBER(x)=0xg\nno line at all")
    assert info.release is info.build_id is info.page_size is info.crash_time is None
    assert info.symbol("x") is info.size("x") is info.offset("x") is info.length("x") is None
    assert info.number("x") is None


@pytest.mark.parametrize("size", [0, -4096, 1, 4095, 8192, 1 << 40])
def test_a_page_size_that_no_power_has_is_none(size) -> None:
    assert vmcoreinfo.read(b"PAGESIZE=%d\n" % size).page_size is None


def test_a_number_of_a_million_digits_is_none() -> None:
    assert vmcoreinfo.read(b"CRASHTIME=" + b"9" * 60000).crash_time is None


def test_lines_are_left_out_by_key() -> None:
    text = vmcoreinfo.read(TEXT).without("CRASHTIME", "PAGESIZE").text
    assert b"CRASHTIME" not in text
    assert b"PAGESIZE" not in text
    assert len(text.splitlines()) == 11
    assert vmcoreinfo.read(TEXT).without("CRASH").text == TEXT, "a key is not a prefix"


def test_a_real_kernels_text(real) -> None:
    core = elfcore.read(lambda at, size: real.vmcore_head[at : at + size], len(real.vmcore_head))
    note = list(elfcore.read_notes(real.vmcore_head[0x10000:0x11220], core.order))[2]
    info = vmcoreinfo.read(note.data)
    assert info.text == note.data.rstrip(b"\0")
    assert info.page_size == 65536
    assert f"Linux version {info.release} " in real.console
    assert info.symbol("_stext") >> 60 == 0xC
    assert info.crash_time > 1_700_000_000
    radix = "radix" in real.name
    assert info.number("RADIX_MMU") == int(radix)


keys = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="="), min_size=1
)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(st.dictionaries(keys, texts, max_size=8))
def test_any_lines_are_read(lines) -> None:
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    assert dict(vmcoreinfo.read(text.encode())) == lines


@given(st.binary(max_size=400))
def test_any_bytes_are_read(data) -> None:
    info = vmcoreinfo.read(data)
    dict(info)
    assert info.page_size is None or info.page_size in (4096, 16384, 65536, 262144)
    assert b"\0" not in info.text


def note(text: bytes, order: str) -> bytes:
    return elfcore.write_notes([elfcore.Note(b"VMCOREINFO", 0, text)], order)


def found(data: bytes, start: int = 0):
    return identify.find_vmcoreinfo(Memory([Extent(start, len(data), BytesStore(data), 0)]))


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("at", [0, 24, 4096, (16 << 20) - 30, (16 << 20) - 1000, 16 << 20])
def test_it_is_found_in_memory_with_the_byte_order_of_its_note(order, at) -> None:
    """Also where it lies across the pieces that memory is searched in."""
    info, told = found(bytes(at) + note(TEXT, order) + bytes(65536))
    assert info == Vmcoreinfo(TEXT)
    assert told == order


def test_without_a_note_the_byte_order_is_unknown() -> None:
    assert found(bytes(100) + TEXT + bytes(100)) == (Vmcoreinfo(TEXT), None)


def test_a_log_that_quotes_its_first_line_is_none() -> None:
    quoted = b"the kernel said OSRELEASE=6.1.0\nand more\n"
    assert found(quoted + bytes(100)) == (None, None)
    assert found(quoted + TEXT + bytes(9))[0] == Vmcoreinfo(TEXT), "right behind it, too"


def test_the_latest_crash_counts_then_the_longest_text() -> None:
    older = TEXT.replace(b"1795373042", b"1795373041") + b"MORE=1\n"
    never = TEXT.replace(b"CRASHTIME=1795373042\n", b"NUMBER(a)=1\n" * 99)
    for texts in ([older, never, TEXT], [TEXT, older, never], [never, TEXT, older]):
        assert found(b"".join(text + bytes(10) for text in texts))[0] == Vmcoreinfo(TEXT)
    assert found(TEXT.replace(b"CRASHTIME=1795373042\n", b"") + bytes(5) + never)[0].text == never


def test_the_byte_order_is_that_of_the_text_that_was_chosen() -> None:
    """Memory may still hold what a kernel of the other byte order left before."""
    old = TEXT.replace(b"1795373042", b"1795373041")
    for notes in (
        (note(TEXT, "little"), note(old, "big")),
        (note(old, "big"), note(TEXT, "little")),
    ):
        assert found(bytes(64) + notes[0] + bytes(64) + notes[1])[1] == "little"


def test_no_memory_has_none() -> None:
    assert identify.find_vmcoreinfo(Memory([])) == (None, None)
    assert found(bytes(100)) == (None, None)


@pytest.mark.parametrize("nonsense", [b"OSRELEASE=6.1.0\n", b"OSRELEASE=6.1.0\nX=" + b"y" * 100])
def test_memory_full_of_first_lines_is_searched_in_time(nonsense) -> None:
    data = nonsense * ((4 << 20) // len(nonsense))
    began = time.process_time()
    assert found(data) == (None, None)
    assert time.process_time() - began < 30, "about 2 s on an idle machine"
