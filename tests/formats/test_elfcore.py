"""ELF core files: the kernel's own head, one by hand, pyelftools' view of ours, and damage."""

from __future__ import annotations

import io
import struct
import time

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import elfcore
from phypan.formats.elfcore import PT_LOAD, PT_NOTE, ElfCore, Note, Segment
from tests.damage import cut_short, flipped, refused, words_at_extremes

# By hand from the System V ABI: a big-endian core file for PowerPC64 with a note and a segment.
BY_HAND = bytes.fromhex(
    "7f454c46 02 02 01 00 0000000000000000 0004 0015 00000001 0000000000000000"
    "0000000000000040 0000000000000000 00000002 0040 0038 0002 0000 0000 0000"
    # PT_NOTE at 0xb0, 0x18 bytes
    "00000004 00000000 00000000000000b0 0000000000000000 0000000000000000"
    "0000000000000018 0000000000000018 0000000000000000"
    # PT_LOAD at 0xc8: physical 0x20000, 4 bytes
    "00000001 00000007 00000000000000c8 c000000000020000 0000000000020000"
    "0000000000000004 0000000000000008 0000000000000000"
    "00000005 00000003 00000006 434f5245 00000000 61626300"  # CORE, type 6: "abc"
    "deadbeef"
)


def from_bytes(data: bytes):
    return elfcore.read(lambda at, size: data[at : at + size], len(data))


def test_a_file_written_by_hand_is_read() -> None:
    core = from_bytes(BY_HAND)
    assert core == ElfCore(
        order="big",
        flags=2,
        machine=elfcore.EM_PPC64,
        segments=(
            Segment(PT_NOTE, 0xB0, 0, 0, 0x18, 0x18, flags=0),
            Segment(PT_LOAD, 0xC8, 0xC000000000020000, 0x20000, 4, 8, flags=7),
        ),
    )
    assert core.loads == core.segments[1:]
    assert list(elfcore.read_notes(BY_HAND[0xB0:0xC8], "big")) == [Note(b"CORE", 6, b"abc")]
    assert elfcore.write_head(core) == BY_HAND[:0xB0]
    assert elfcore.write_notes([Note(b"CORE", 6, b"abc")], "big") == BY_HAND[0xB0:0xC8]


def test_the_head_that_the_kernel_built_is_read(real) -> None:
    core = from_bytes(real.vmcore_head)
    assert core.order == ("big" if real.name.startswith("be") else "little")
    assert core.machine == elfcore.EM_PPC64
    note, *loads = core.segments
    assert note == Segment(PT_NOTE, 0x10000, 0, 0, 0x1220, 0x1220, flags=0, align=4)
    assert [{"paddr": load.paddr, "vaddr": load.vaddr, "size": load.filesz} for load in loads] == [
        {key: load[key] for key in ("paddr", "vaddr", "size")} for load in real.loads
    ]
    notes = list(elfcore.read_notes(real.vmcore_head[0x10000 : 0x10000 + 0x1220], core.order))
    assert [(note.name, note.type) for note in notes] == [
        (b"CORE", 1), (b"CORE", 1), (b"VMCOREINFO", 0),
    ]  # fmt: skip
    assert all(len(note.data) == 504 for note in notes[:2])
    assert elfcore.write_notes(notes, core.order) == real.vmcore_head[0x10000 : 0x10000 + 0x1220]


u64 = st.integers(0, (1 << 64) - 1)
u32 = st.integers(0, (1 << 32) - 1)
orders = st.sampled_from(["big", "little"])
segments = st.builds(Segment, u32, u64, u64, u64, u64, u64, flags=u32, align=u64) | st.builds(
    Segment, st.sampled_from([PT_LOAD, PT_NOTE]), u64, u64, u64, u64, u64
)
cores = st.builds(
    ElfCore, order=orders, flags=u32, machine=st.just(21), segments=st.lists(segments).map(tuple)
)


@given(cores)
def test_what_is_written_is_read_in_any_order_of_segments(core) -> None:
    head = elfcore.write_head(core)
    assert len(head) == elfcore.head_size(len(core.segments))
    assert from_bytes(head) == core


def as_pyelftools_sees_it(head: bytes) -> list[tuple[int, ...]]:
    file = ELFFile(io.BytesIO(head))
    assert file["e_machine"] == "EM_PPC64"
    assert file["e_type"] == "ET_CORE"
    fields = ("p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_flags", "p_align")
    return [tuple(segment[name] for name in fields) for segment in file.iter_segments()]


def as_we_do(core: ElfCore) -> list[tuple[int, ...]]:
    return [
        (s.offset, s.vaddr, s.paddr, s.filesz, s.memsz, s.flags, s.align) for s in core.segments
    ]


@given(cores)
def test_pyelftools_reads_what_we_write(core) -> None:
    plain = [Segment(PT_LOAD, *as_we_do(core)[n][:5]) for n in range(len(core.segments))]
    core = ElfCore(core.order, core.flags, 21, tuple(plain))
    assert as_pyelftools_sees_it(elfcore.write_head(core)) == as_we_do(core)


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("count", [65534, 65535, 65536, 70000])
def test_more_segments_than_fit_their_counter(order, count) -> None:
    """PN_XNUM: from 65535 on their number is in section header 0."""
    core = ElfCore(
        order, 2, 21, tuple(Segment(PT_LOAD, n, n << 16, n << 20, 4096, 4096) for n in range(count))
    )
    began = time.process_time()
    head = elfcore.write_head(core)
    assert len(head) == elfcore.head_size(count)
    number = int.from_bytes(head[56:58], order)
    assert number == min(count, 0xFFFF)
    assert from_bytes(head) == core
    assert time.process_time() - began < 10
    if count == 65535:
        assert as_pyelftools_sees_it(head)[-3:] == as_we_do(core)[-3:]


notes = st.lists(
    st.builds(
        Note,
        st.binary(max_size=12).map(lambda name: name.rstrip(b"\0")),
        st.integers(1, (1 << 32) - 1),
        st.binary(max_size=40),
    ),
    max_size=8,
)


@given(notes, orders, st.integers(0, 40))
def test_notes_written_are_read_up_to_a_header_of_zeros(found, order, zeros) -> None:
    problems = []
    data = elfcore.write_notes(found, order) + bytes(zeros)
    assert list(elfcore.read_notes(data, order, problems)) == found
    assert problems == []


@given(notes, orders, st.data())
def test_notes_that_are_cut_off_are_said(found, order, data) -> None:
    whole = elfcore.write_notes(found, order)
    size = data.draw(st.integers(0, len(whole)))
    problems = []
    read = list(elfcore.read_notes(whole[:size], order, problems))
    assert read == found[: len(read)]
    rest = whole[len(elfcore.write_notes(found[: len(read)], order)) : size]
    assert len(problems) == int(any(rest[:12])), "zeros are the end, or cannot be told from it"


def test_more_notes_than_any_machine_has_are_not_read() -> None:
    problems = []
    one = struct.pack(">III", 0, 0, 1)
    count = sum(1 for _ in elfcore.read_notes(one * (elfcore.MAX_NOTES + 5), "big", problems))
    assert count == elfcore.MAX_NOTES
    assert "more than" in problems[0].what


@pytest.mark.parametrize(
    ("head", "order"),
    [
        (BY_HAND[:6], "big"),
        (BY_HAND[:5] + b"\1", "little"),
        (BY_HAND[:5], None),
        (b"", None),
        (BY_HAND[:4] + b"\1\2", None),  # 32-bit
        (BY_HAND[:5] + b"\3", None),
        (b"KDUMP   ", None),
    ],
)
def test_the_byte_order_is_in_the_first_six_bytes(head, order) -> None:
    assert elfcore.byte_order(head) == order


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_kernel_or_a_library_is_no_core_file(kind) -> None:
    with pytest.raises(BadRecord, match="not a core file") as caught:
        from_bytes(BY_HAND[:17] + bytes([kind]) + BY_HAND[18:])
    assert "vmlinux" in caught.value.hint


def test_a_vmlinux_is_refused_with_a_hint(real) -> None:
    with real.vmlinux.open("rb") as file:
        head = file.read(1 << 16)
    with pytest.raises(BadRecord, match="not a core file"):
        from_bytes(head)


def test_a_core_file_without_segments_is_read() -> None:
    assert from_bytes(BY_HAND[:56] + bytes(8)).segments == ()


def everything(data: bytes) -> None:
    core = from_bytes(data)
    for segment in core.segments:
        for _ in elfcore.read_notes(data[segment.offset : segment.offset + 100], core.order, []):
            pass


def test_a_cut_head_is_refused() -> None:
    assert refused(everything, cut_short(BY_HAND[:0xB0])) == 0xB0


def test_every_field_at_extreme_values_is_read_or_refused() -> None:
    for width in (2, 4, 8):
        refused(everything, words_at_extremes(BY_HAND, width, "big"))


@given(flipped(BY_HAND))
def test_flipped_bits_are_read_or_refused(data) -> None:
    refused(everything, [data])


@pytest.mark.parametrize("shoff", [0, 63, len(BY_HAND), (1 << 64) - 1])
def test_a_count_in_a_section_header_that_is_not_there_is_refused(shoff) -> None:
    data = BY_HAND[:40] + shoff.to_bytes(8, "big") + BY_HAND[48:56] + b"\xff\xff" + BY_HAND[58:]
    with pytest.raises(BadRecord, match="PN_XNUM"):
        from_bytes(data)


def test_a_count_beyond_all_reason_is_refused_before_it_is_read() -> None:
    section = bytes(44) + b"\xff" * 4 + bytes(16)
    data = (
        BY_HAND[:40] + (0xB0).to_bytes(8, "big") + BY_HAND[48:56] + b"\xff\xff" + BY_HAND[58:0xB0]
    )
    with pytest.raises(BadRecord, match="4294967295 program headers"):
        from_bytes(data + section)


@pytest.mark.parametrize(
    "segment",
    [Segment(1, -1, 0, 0, 0, 0), Segment(1, 0, 1 << 64, 0, 0, 0), Segment(1 << 32, 0, 0, 0, 0, 0)],
)
def test_what_does_not_fit_a_program_header_is_not_written(segment) -> None:
    with pytest.raises(BadRecord):
        elfcore.write_head(ElfCore("big", 0, 21, (segment,)))


def test_what_does_not_fit_a_note_is_not_written() -> None:
    with pytest.raises(BadRecord):
        elfcore.write_notes([Note(b"X", 1 << 32, b"")], "big")
