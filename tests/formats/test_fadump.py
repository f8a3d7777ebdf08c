"""Linux's crash info header, by hand and as a real kernel wrote it; debugfs's text."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phypan
from phypan.errors import BadRecord
from phypan.formats import fadump, ppc_notes, pt_regs
from phypan.formats.fadump import CrashInfo, DebugRegion
from tests.damage import cut_short, flipped, refused, words_at_extremes

REGS = pt_regs.of(range(0x1000, 0x1030))


def header_v1(order: str, *, regs: int = 384, mask: bytes = b"\0" * 7 + b"\x05") -> bytes:
    """Written with struct from arch/powerpc/include/asm/fadump-internal.h of 6.10 and later."""
    sign = ">" if order == "big" else "<"
    mask = mask if order == "big" else mask[::-1]
    head = struct.pack(
        sign + "QIIQQII", 0x4641444D50534947, 1, 2, 0x16230000, 65572, regs, len(mask)
    )
    words = struct.pack(sign + "48Q", *range(0x1000, 0x1030))[:regs]
    return head + words.ljust(regs, b"\0") + mask


def header_v0(order: str, *, at: int = 0x2FFE0000, regs: int = 352, mask: int = 256) -> bytes:
    """As 3.4 to 6.9 have it; the ELF header is behind it. CPUs 0 and 9 are online."""
    sign = ">" if order == "big" else "<"
    head = struct.pack(sign + "QQII", 0x4641444D50494E46, at + 24 + regs + mask, 1, 0)
    words = struct.pack(sign + "48Q", *range(0x1000, 0x1030))[:regs]
    online = struct.pack(sign + "Q", 1 << 0 | 1 << 9)
    return head + words.ljust(regs, b"\0") + online.ljust(mask, b"\0")


# The same two by hand, for the layout itself: magic numbers are numbers, so a little-endian kernel
# has "GISPMDAF" in memory.
V1_LITTLE_HEAD = bytes.fromhex(
    "474953504d444146 01000000 02000000 0000231600000000 2400010000000000 80010000 08000000"
)
V0_BIG_HEAD = bytes.fromhex("4641444d50494e46 000000002ffe0278 00000001 00000000")


def test_the_headers_are_as_written_by_hand() -> None:
    assert header_v1("little")[:40] == V1_LITTLE_HEAD
    assert header_v0("big")[:24] == V0_BIG_HEAD


@pytest.mark.parametrize("order", ["big", "little"])
def test_version_1_is_read(order) -> None:
    info = fadump.read(header_v1(order) + b"what follows")
    assert info == CrashInfo(
        version=1,
        order=order,
        crashing_cpu=2,
        regs=REGS,
        online=frozenset({0, 2}),
        size=432,
        vmcoreinfo=(0x16230000, 65572),
    )


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("regs", [352, 368, 384])
def test_version_0_is_read_when_its_place_is_known(order, regs) -> None:
    data = header_v0(order, regs=regs)
    info = fadump.read(data + bytes(1000), 0x2FFE0000)
    assert (info.version, info.order, info.crashing_cpu) == (0, order, 1)
    assert info.regs.words[: regs // 8] == REGS.words[: regs // 8]
    assert info.online == {0, 9}
    assert (info.size, info.elfcorehdr) == (len(data), 0x2FFE0000 + len(data))
    assert fadump.read(data) == info, "the header alone, as phypan's note has it"


def test_a_mask_that_could_begin_in_two_places_is_unknown() -> None:
    """384 + 32 bytes are also 352 + 64: a wrong guess would take registers for CPUs."""
    info = fadump.read(header_v0("big", regs=384, mask=32), 0x2FFE0000)
    assert info.online is None
    assert info.regs.words[:44] == REGS.words[:44]


def test_an_unknown_cpu_is_none() -> None:
    data = header_v1("big")
    assert fadump.read(data[:12] + b"\xff" * 4 + data[16:]).crashing_cpu is None


def test_a_real_kernels_header(real) -> None:
    with phypan.open(real.path) as dump:
        raw = dump.raw[ppc_notes.NT_CRASH_INFO]
    info = fadump.read(raw)
    assert (info.version, info.size) == (1, len(raw))
    assert info.order == ("big" if real.name.startswith("be") else "little")
    assert info.online == {0, 1}, "-smp 2"
    assert info.vmcoreinfo[1] == 24 + 12 + 65536, "VMCOREINFO_NOTE_SIZE with pages of 64K"
    sign = ">" if info.order == "big" else "<"
    registers = struct.pack(sign + "48Q", *info.regs.words)
    assert registers in real.vmcore_head, "the second kernel wrote them into its vmcore"


orders = st.sampled_from(["big", "little"])
words = st.integers(0, (1 << 64) - 1)
infos = st.builds(
    CrashInfo,
    version=st.just(1),
    order=orders,
    crashing_cpu=st.none() | st.integers(0, 0xFFFFFFFE),
    regs=st.lists(words, min_size=48, max_size=48).map(pt_regs.of),
    online=st.frozensets(st.integers(0, 2047), max_size=20),
    size=st.just(40 + 384 + 256),
    vmcoreinfo=st.tuples(words, words),
)


@given(infos)
def test_what_is_written_is_read(info) -> None:
    assert fadump.read(fadump.write(info)) == info


@given(infos, st.sampled_from([(352, 256), (368, 128), (384, 256), (352, 16)]), words)
def test_version_0_written_is_read(info, sizes, address) -> None:
    regs, mask = sizes
    size = 24 + regs + mask
    address %= 1 << 62
    old = CrashInfo(
        version=0,
        order=info.order,
        crashing_cpu=info.crashing_cpu,
        regs=pt_regs.of(info.regs.words[: regs // 8]),
        online=frozenset(n for n in info.online if n < 8 * mask),
        size=size,
        elfcorehdr=address + size,
    )
    data = fadump.write(old, pt_regs_size=regs, cpu_mask_size=mask)
    assert len(data) == size
    assert fadump.read(data, address) == old


@pytest.mark.parametrize("size", [8, 12])
def test_a_cpu_outside_of_the_mask_is_not_lost_in_silence(size) -> None:
    info = CrashInfo(1, "big", 0, REGS, frozenset({64}), 0)
    with pytest.raises(BadRecord, match="CPU 64"):
        fadump.write(info, cpu_mask_size=size)


def test_what_has_no_magic_number_is_refused() -> None:
    for data in (b"", b"FADMPIN", bytes(500), header_v1("big")[1:]):
        assert fadump.byte_order(data) is None
        with pytest.raises(BadRecord, match="magic"):
            fadump.read(data)


def test_a_cut_header_is_refused() -> None:
    for order in ("big", "little"):
        data = header_v1(order)
        assert refused(fadump.read, cut_short(data)) == len(data)
        data = header_v0(order)
        assert refused(lambda cut: fadump.read(cut, 0x2FFE0000), cut_short(data)) == len(data)


def test_every_field_at_extreme_values_is_read_or_refused() -> None:
    for order in ("big", "little"):
        for data, size in ((header_v1(order), 40), (header_v0(order), 24)):
            for width in (4, 8):
                damaged = words_at_extremes(data, width, order, size)
                refused(fadump.read, damaged)
                refused(lambda cut: fadump.read(cut, 0x2FFE0000), damaged)


@given(flipped(header_v1("big")[:100] + header_v1("big")[100:]) | flipped(header_v0("little")))
def test_flipped_bits_are_read_or_refused(data) -> None:
    refused(fadump.read, [data])
    refused(lambda cut: fadump.read(cut, 0x2FFE0000), [data])


# What kernels print, by their format strings: fadump_region_show() of 3.4 and of 4.x, and
# rtas_fadump_region_show() of 6.12. Linux prints 0x for zero as well, unlike C's printf.
OLD = """\
CPU : [0x0000006ffb0000-0x0000006fff001f] 0x40020 bytes, Dumped: 0x40020
HPTE: [0x0000006fff0020-0x0000006fff101f] 0x1000 bytes, Dumped: 0x1000
DUMP: [0x0000006fff1020-0x0000007fff101f] 0x10000000 bytes, Dumped: 0x10000000
    : [0x00000010000000-0x0000006ffaffff] 0x5ffb0000 bytes, Dumped: 0x5ffb0000
"""
NEW = """\
CPU :[0x00000018ec0000-0x00000018ec09ff] 0xa00 bytes, Dumped: 0xa00
HPTE:[0x00000018ec0a00-0x00000018ec09ff] 0x0 bytes, Dumped: 0x0
DUMP: Src: 0x00000000000000, Dest: 0x00000018ed0000, Size: 0xa000000, Dumped: 0xa000000 bytes
DUMP: Src: 0x00000020000000, Dest: 0x00000022ed0000, Size: 0xa000000, Dumped: 0x9000000 bytes
Memory above 0x00000014000000 is reserved for saving crash dump
"""


def test_debugfs_of_old_kernels() -> None:
    assert fadump.read_debug_regions(OLD) == [
        DebugRegion("CPU", 0x6FFB0000, 0x40020, 0x40020),
        DebugRegion("HPTE", 0x6FFF0020, 0x1000, 0x1000),
        DebugRegion("DUMP", 0x6FFF1020, 0x10000000, 0x10000000),
    ]


def test_debugfs_of_new_kernels() -> None:
    regions = [
        DebugRegion("CPU", 0x18EC0000, 0xA00, 0xA00),
        DebugRegion("HPTE", 0x18EC0A00, 0, 0),
        DebugRegion("DUMP", 0x18ED0000, 0xA000000, 0xA000000, source=0),
        DebugRegion("DUMP", 0x22ED0000, 0xA000000, 0x9000000, source=0x20000000),
    ]
    assert fadump.read_debug_regions(NEW) == regions
    assert fadump.write_debug_regions(regions, above=0x14000000) == NEW


u64 = st.integers(0, (1 << 64) - 1)


@given(
    st.lists(
        st.builds(
            DebugRegion,
            st.sampled_from(["CPU", "HPTE", "DUMP"]),
            u64,
            st.integers(1, 1 << 63),
            u64,
            st.none() | u64,
        ).filter(lambda r: r.destination + r.size <= 1 << 64),
        max_size=8,
    )
)
def test_what_is_written_for_debugfs_is_read(regions) -> None:
    assert fadump.read_debug_regions(fadump.write_debug_regions(regions)) == regions


@pytest.mark.parametrize(
    "text", ["", "CPU", OLD.replace("0x", "0x" + "f" * 20), OLD.replace("Dumped", "dumped")]
)
def test_other_texts_have_no_regions(text) -> None:
    assert fadump.read_debug_regions(text) == []


@pytest.mark.parametrize("filler", ["CPU ", "CPU :", "DUMP: Src: 0x0, ", "CPU" + " " * 1000])
def test_a_long_text_of_nonsense_is_read_in_time(filler) -> None:
    began = time.process_time()
    assert fadump.read_debug_regions(filler * (2_000_000 // len(filler))) == []
    assert time.process_time() - began < 3
