"""ELF core files of any origin: what is in them, and what is cut off, doubled or absurd."""

from __future__ import annotations

import struct
import time

import pytest

import phypan
from phypan.errors import BadRecord, Unsupported
from phypan.hooks import Input
from phypan.memory import Hole, PageState
from phypan.plugins.sources import elf
from phypan.stores import BytesStore
from tests import synthetic
from tests.synthetic import VMCOREINFO, core, note, prstatus

MSR = 0x8000000000001032


def notes(order: str) -> bytes:
    words = [0] * 33 + [MSR | (order == "little")]
    return prstatus(order, 1, words) + note(b"VMCOREINFO", 0, VMCOREINFO, order)


def opened(data: bytes, path="vmcore"):
    store = BytesStore(data, str(path))
    return elf.open_(Input(path, store, data[:4096]))


def said(dump) -> list[str]:
    return [str(problem) for problem in dump.problems]


def with_header(data: bytes, index: int, order="big", **fields: int) -> bytes:
    """The file with fields of a program header changed."""
    places = {
        "type": (0, 4),
        "offset": (8, 8),
        "paddr": (24, 8),
        "filesz": (32, 8),
        "memsz": (40, 8),
    }
    for name, value in fields.items():
        at, width = places[name]
        at += 64 + 56 * index
        data = data[:at] + value.to_bytes(width, order) + data[at + width :]
    return data


@pytest.mark.parametrize("order", ["big", "little"])
def test_a_file_that_somebody_else_wrote(order) -> None:
    low, high = synthetic.pattern(0, 4096), synthetic.pattern(0x100000, 4096)
    dump = opened(core(order, [(0x100000, high), (0, low)], notes(order)))
    assert said(dump) == []
    assert dump.byte_order == order
    assert dump.memory.read(0, 4096) == low
    assert dump.memory.read(0x100000, 4096) == high
    assert [(h.start, h.end) for h in dump.memory.holes()] == [(4096, 0x100000)]
    assert dump.cpus[0].kernel["msr"] == MSR | (order == "little")
    assert not dump.incomplete


def test_segments_and_notes_in_any_order() -> None:
    """The one PT_NOTE need not be first, and there may be several: fadump's own have two."""
    loads = [(0, b"a" * 64), (4096, b"b" * 64)]
    data = bytearray(core("big", loads, notes("big")))
    headers = [bytes(data[64 + 56 * n : 120 + 56 * n]) for n in range(3)]
    first = struct.unpack(">IIQQQQQQ", headers[0])
    half = len(prstatus("big", 1, []))
    one = struct.pack(">IIQQQQQQ", 4, 0, first[2], 0, 0, half, half, 0)
    two = struct.pack(">IIQQQQQQ", 4, 0, first[2] + half, 0, 0, first[5] - half, 0, 0)
    table = headers[2] + two + headers[1] + one
    file = bytes(data[:64]) + b"".join(headers) + bytes(data[232:]) + table
    file = (
        file[:32] + (len(file) - len(table)).to_bytes(8, "big") + file[40:56] + b"\0\4" + file[58:]
    )
    dump = opened(file)
    assert said(dump) == []
    assert dump.memory.read(0, 64) + dump.memory.read(4096, 64) == b"a" * 64 + b"b" * 64
    assert dump.vmcoreinfo.text == VMCOREINFO
    assert len(dump.cpus) == 1


def test_what_was_left_out_on_purpose_is_excluded_and_not_zeros() -> None:
    data = with_header(core("big", [(0, b"x" * 4096)], notes("big")), 1, memsz=65536)
    dump = opened(data)
    hole = dump.memory.at(4096)
    assert (hole.start, hole.end, hole.state) == (4096, 65536, PageState.EXCLUDED)
    assert "p_filesz" in hole.why
    assert not dump.incomplete


def test_a_segment_without_a_physical_address_is_no_memory() -> None:
    """kexec and QEMU have such for vmalloc and the like: p_paddr is -1."""
    data = core("big", [(0, b"x" * 64), (0, b"y" * 64)], notes("big"))
    dump = opened(with_header(data, 2, paddr=(1 << 64) - 1))
    assert said(dump) == []
    assert dump.memory.size == 64


def test_a_file_cut_short_has_holes_and_says_where() -> None:
    data = core("big", [(0, b"x" * 4096), (8192, b"y" * 4096)], notes("big"))
    dump = opened(data[:-1000])
    assert dump.incomplete
    assert dump.memory.read(8192, 3096) == b"y" * 3096
    assert dump.memory.at(8192 + 3096) == Hole(
        8192 + 3096, 1000, PageState.DAMAGED, "the file ends before it"
    )
    assert said(dump) == [
        "program header 2: the file ends before its bytes do; the memory behind that is missing"
    ]


def test_memory_that_is_there_twice_is_the_first() -> None:
    data = core("big", [(0, b"x" * 4096), (4000, b"y" * 4096), (4090, b"z" * 10)], notes("big"))
    dump = opened(data)
    assert dump.memory.read(4000, 96) == b"x" * 96
    assert dump.memory.read(4096, 4000) == b"y" * 4000
    assert said(dump) == [
        "program headers: 0x6a bytes are there twice, first at physical address 0xfa0; "
        "the first was used"
    ]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"paddr": (1 << 64) - 10}, "wraps around"),
        ({"memsz": (1 << 64) - 10, "paddr": 4096}, "wraps around"),
        ({"filesz": 1 << 63, "memsz": 1 << 63, "paddr": 1 << 63}, "the file ends before its bytes"),
        ({"offset": 1 << 62}, "the file ends before its bytes do"),
        ({"memsz": 10}, "p_filesz is more than p_memsz"),
        ({"type": 7}, "no PT_LOAD"),
    ],
)
def test_absurd_program_headers_are_said(fields, text) -> None:
    dump = opened(with_header(core("big", [(0, b"x" * 64)], notes("big")), 1, **fields))
    assert any(text in line for line in said(dump)), said(dump)


def test_a_file_without_memory_is_said() -> None:
    dump = opened(core("big", [], notes("big")))
    assert said(dump) == ["program headers: no PT_LOAD; the file holds no memory"]


@pytest.mark.parametrize(("order", "incomplete"), [("little", True), ("big", False)])
def test_makedumpfiles_mark_of_an_incomplete_file(order, incomplete) -> None:
    """Bit 0 of e_flags: of a big-endian kernel it may be the ABI's, ELFv1."""
    data = core(order, [(0, b"x" * 64)], notes(order))
    flags = (1).to_bytes(4, order)
    assert opened(data[:48] + flags + data[52:]).incomplete == incomplete


def test_notes_that_the_file_ends_in_are_said() -> None:
    data = core("big", [(0, b"x" * 64)], notes("big"))
    dump = opened(with_header(data, 0, filesz=1 << 40))
    assert any("0x10000000000 bytes of notes at" in line for line in said(dump))
    assert dump.vmcoreinfo.text == VMCOREINFO


def test_regions_for_a_file_that_needs_none_are_said(folder) -> None:
    (folder / "vmcore").write_bytes(core("big", [(0, b"x" * 64)], notes("big")))
    with phypan.open(folder / "vmcore", regions=[folder / "boot2.dtb"]) as dump:
        (line,) = said(dump)
        assert line.endswith("boot2.dtb: a core file describes itself; it was not looked at")


def test_another_machine_is_unsupported() -> None:
    data = core("little", [(0, b"x")], machine=62)
    with pytest.raises(Unsupported, match="machine 62") as caught:
        opened(data)
    assert caught.value.exit_code == 2


def test_what_is_no_core_file_is_refused() -> None:
    for data in (b"", b"\x7fELF", b"KDUMP   " + bytes(100)):
        with pytest.raises(BadRecord):
            opened(data)
    with pytest.raises(Unsupported):
        elf.open_(Input("folder", None))


@pytest.mark.parametrize(
    ("data", "sure"),
    [
        (core("big", []), 90),
        (core("little", []), 90),
        (core("little", [], machine=62), 10),
        (core("big", [])[:17] + b"\2" + core("big", [])[18:], 0),
        (core("big", [])[:63], 0),
        (b"", 0),
        (b"\x7fELF\1", 0),
    ],
)
def test_how_sure_it_is(data, sure) -> None:
    assert elf.probe(Input("x", BytesStore(data), data)) == sure


def many(count: int, **fields: int) -> bytes:
    """A file of `count` segments of which each has the same fields."""
    data = bytearray(core("big", [(0, b"")], notes("big")))
    header = struct.pack(">IIQQQQQQ", 1, 7, 64, 0, 0, 64, 128, 0)
    head = struct.unpack(">IIQQQQQQ", data[64:120])
    table = bytearray(struct.pack(">IIQQQQQQ", *head[:2], head[2] + 64, *head[3:]) + header * count)
    for index in range(count):
        at = 56 * (index + 1) + 24
        table[at : at + 8] = (fields.get("step", 0) * index).to_bytes(8, "big")
    section = bytes(44) + (count + 1).to_bytes(4, "big") + bytes(16)
    body = bytes(data[:64]) + bytes(64) + bytes(data[176:])
    at = len(body)
    body = body[:32] + at.to_bytes(8, "big") + (at + len(table)).to_bytes(8, "big") + body[48:]
    return body[:56] + b"\xff\xff" + body[58:] + bytes(table) + section


@pytest.mark.parametrize("step", [0, 16, 4096])
def test_seventy_thousand_segments_open_in_seconds(step) -> None:
    """More than e_phnum can say; apart, overlapping, and all of them at one place."""
    data = many(70_000, step=step)
    began = time.process_time()
    dump = opened(data)
    pieces = sum(1 for _ in dump.memory.pieces(0, dump.memory.end))
    assert time.process_time() - began < 30, "about 3 s on an idle machine"
    assert len(dump.problems) <= 3
    assert dump.memory.read(0, 64)
    assert pieces == {0: 2, 16: 70_004, 4096: 210_000 - 1}[step]


def test_the_kernels_own_file_is_read(real, folder) -> None:
    """vmcore.head is cut in the data: registers and VMCOREINFO are whole."""
    path = folder / "vmcore"
    path.write_bytes(real.vmcore_head)
    with phypan.open(path) as dump, phypan.open(real.path) as ours:
        assert [cpu.kernel for cpu in dump.cpus] == [cpu.regs() for cpu in ours.cpus]
        assert dump.vmcoreinfo == ours.vmcoreinfo
        assert (dump.byte_order, dump.page_size) == (ours.byte_order, ours.page_size)
        assert dump.incomplete
        assert "the file ends before its bytes do" in said(dump)[0]
