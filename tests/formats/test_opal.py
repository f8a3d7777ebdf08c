"""OPAL's structures: by hand from skiboot's headers, there and back, and damage."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import opal
from phypan.formats.opal import Kernel, Mpipl, Region, Thread
from tests.damage import cut_short, flipped, refused, words_at_extremes

# skiboot include/opal-dump.h: struct mpipl_metadata as OPAL publishes it (opal_mpipl_fadump).
MPIPL = bytes.fromhex(
    "01 00000000000000 00000850 00000001 00000048 00000002"
    "0000000000000000 0000000040000000 0000000030000000"
    "0000000100000000 0000000070000000 0000000000010000"
)
# Linux arch/powerpc/platforms/powernv/opal-fadump.h: struct opal_fadump_mem_struct.
KERNEL = bytes.fromhex(
    "01 000000 0001 0001 00000000700100000000000000000000 0000000040000000 0000000030000000"
)
# Two threads of HDAT's P9 form, the second inactive: header of 24 bytes, then entries of 16. The
# offset counts from its own field, which is at byte 8.
THREADS = bytes.fromhex(
    "00000850 00 000000 00000010 00000003 00000010 00000010"
    "00000001 00000001 c000000001e0b9f0"  # GPR 1
    "00000002 000007d0 c000000000028a34"  # NIP
    "00000002 0000032d 0000000000000042"  # SPR 813
    "00000854 0f 000000 00000010 00000003 00000010 00000010" + "00" * 48
)


def test_structures_written_by_hand_are_read() -> None:
    mpipl = opal.read_mpipl(MPIPL)
    assert mpipl == Mpipl(
        0x850, 1, 0x48,
        (Region(0, 0x40000000, 0x30000000), Region(0x100000000, 0x70000000, 0x10000)),
    )  # fmt: skip
    assert opal.write_mpipl(mpipl) == MPIPL
    kernel = opal.read_kernel(KERNEL)
    assert kernel == Kernel(1, 0x70010000, (Region(0, 0x40000000, 0x30000000),))
    assert opal.write_kernel(kernel) == KERNEL


def test_threads_written_by_hand_are_read() -> None:
    problems = []
    (thread,) = opal.read_threads(THREADS, 0x48, problems)
    assert thread == Thread(
        0x850, 0, {"GPR01": 0xC000000001E0B9F0, "NIA": 0xC000000000028A34, "SPR 813": 0x42}
    )
    assert thread.regs["gpr1"] == 0xC000000001E0B9F0
    assert thread.regs["nip"] == 0xC000000000028A34
    assert problems == []
    data, size = opal.write_threads([thread])
    assert (data, size) == (THREADS[:0x48], 0x48)


def test_bytes_behind_the_last_thread_are_said() -> None:
    problems = []
    opal.read_threads(THREADS + b"tail", 0x48, problems)
    assert "4 bytes behind the last thread" in problems[0].what


u64 = st.integers(0, (1 << 64) - 1)
u32 = st.integers(0, (1 << 32) - 1)
regions = st.lists(st.builds(Region, u64, u64, u64), max_size=8).map(tuple)


@given(
    st.builds(Mpipl, u32, u32, u32, regions), st.builds(Kernel, st.integers(0, 65535), u64, regions)
)
def test_what_is_written_is_read(mpipl, kernel) -> None:
    assert opal.read_mpipl(opal.write_mpipl(mpipl) + b"more") == mpipl
    assert opal.read_kernel(opal.write_kernel(kernel) + b"more") == kernel


names = st.sampled_from(
    [*(f"GPR{n:02}" for n in range(32)), *opal.SPR_NAMES.values(), "SPR 813", "SPR 1023"]
)
threads = st.lists(
    st.builds(Thread, u32, st.integers(0, 0x0E), st.dictionaries(names, u64, max_size=45)),
    max_size=5,
)


@given(threads)
def test_threads_written_are_read(found) -> None:
    data, size = opal.write_threads(found)
    if found:
        assert opal.read_threads(data, size) == found
        assert len(data) == size * len(found)


def test_cut_structures_are_refused() -> None:
    assert refused(opal.read_mpipl, cut_short(MPIPL)) == len(MPIPL)
    assert refused(opal.read_kernel, cut_short(KERNEL)) == len(KERNEL)
    assert refused(lambda data: opal.read_threads(data, 0x48), cut_short(THREADS)) == 0x48


def test_every_field_at_extreme_values_is_read_or_refused() -> None:
    for width in (1, 2, 4, 8):
        refused(opal.read_mpipl, words_at_extremes(MPIPL, width, "big"))
        refused(opal.read_kernel, words_at_extremes(KERNEL, width, "big"))
        refused(
            lambda data: opal.read_threads(data, 0x48), words_at_extremes(THREADS, width, "big")
        )


@given(flipped(MPIPL), flipped(KERNEL), flipped(THREADS), u32)
def test_flipped_bits_are_read_or_refused(mpipl, kernel, cpus, size) -> None:
    refused(opal.read_mpipl, [mpipl])
    refused(opal.read_kernel, [kernel])
    refused(lambda data: opal.read_threads(data, size % 200), [cpus])


@pytest.mark.parametrize("size", [0, 23, len(THREADS) + 1, 1 << 40])
def test_a_thread_of_no_possible_size_is_refused(size) -> None:
    with pytest.raises(BadRecord, match="for a thread"):
        opal.read_threads(THREADS, size)


def test_more_regions_than_linux_has_are_refused() -> None:
    data = KERNEL[:4] + struct.pack(">H", 129) + KERNEL[6:] + bytes(24 * 200)
    with pytest.raises(BadRecord, match="129 regions"):
        opal.read_kernel(data)


def test_what_does_not_fit_is_not_written() -> None:
    wide = Region(1 << 64, 0, 0)
    for write in (
        lambda: opal.write_mpipl(Mpipl(0, 1, 0, (wide,))),
        lambda: opal.write_mpipl(Mpipl(1 << 32, 1, 0, ())),
        lambda: opal.write_kernel(Kernel(0, 0, (wide,))),
        lambda: opal.write_threads([Thread(0, 0, {"NIA": -1})]),
    ):
        with pytest.raises(BadRecord):
            write()
