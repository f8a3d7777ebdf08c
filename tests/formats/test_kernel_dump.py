"""ibm,kernel-dump: written by hand from LoPAR, QEMU's own, and every way to damage it."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import device_tree, kernel_dump
from phypan.formats.kernel_dump import ErrorFlag, KernelDump, Section, SectionType, Status
from tests.damage import cut_short, flipped, refused, words_at_extremes

# Written by hand from LoPAR's tables, with the values that Linux' own document of firmware-assisted
# dump has: 0x40020 bytes of CPU state, 0x1000 of HPTEs, 256 MiB of low memory from 0x6ffb0000 on.
BY_HAND = bytes.fromhex(
    "00000001 0003 C000 00000028 00000000 0000000000000000 0000000000000000 00000000 00000000"
    "00000001 0001 0000 0000000000000000 0000000000040020 0000000000040020 000000006ffb0000"
    "00000001 0002 0000 0000000000000000 0000000000001000 0000000000001000 000000006fff0020"
    "00000001 0011 0000 0000000000000000 0000000010000000 0000000010000000 000000006fff1020"
)


def test_a_structure_written_by_hand_is_read() -> None:
    assert len(BY_HAND) == 160, "sizeof(struct phyp_dump_header)"
    dump = kernel_dump.read(BY_HAND)
    assert dump == KernelDump(
        sections=(
            Section(SectionType.CPU_STATE, 0, 0x40020, 0x6FFB0000, dumped=0x40020),
            Section(SectionType.HPTE, 0, 0x1000, 0x6FFF0020, dumped=0x1000),
            Section(SectionType.REAL_MODE_REGION, 0, 0x10000000, 0x6FFF1020, dumped=0x10000000),
        ),
        status=Status.PERFORMED | Status.TRIGGERED,
    )
    assert dump.problems == ()
    assert list(kernel_dump.section_problems(dump)) == []
    assert kernel_dump.write(dump) == BY_HAND


def test_the_areas_follow_each_other_as_linux_registers_them() -> None:
    sections = kernel_dump.read(BY_HAND).sections
    for before, after in itertools.pairwise(sections):
        assert before.destination + before.length == after.destination


def test_qemus_own_property_is_read_and_written_back(real) -> None:
    """hw/ppc/spapr_fadump.c of QEMU 11 wrote it, for Linux 6.12, which put it together."""
    data = device_tree.kernel_dump(device_tree.read(real.device_tree.read_bytes()))
    assert len(data) == 0x28 + 4 * 0x28
    dump = kernel_dump.read(data)
    assert dump.status == Status.PERFORMED | Status.TRIGGERED
    cpu, hpte, low, parameters = dump.sections
    assert [section.name for section in dump.sections] == [
        "CPU_STATE", "HPTE", "REAL_MODE_REGION", "PARAMETER_AREA",
    ]  # fmt: skip
    assert (cpu.length, cpu.dumped) == (0x20 + 2 * 79 * 16, 0x20 + 2 * 79 * 16), "79 entries a CPU"
    assert (hpte.length, hpte.dumped) == (0, 0), "QEMU saves none"
    assert (low.source, low.length, low.dumped) == (0, 320 << 20, 320 << 20), "crashkernel=320M"
    assert low.destination % 65536 == 0, "page aligned since 6.10"
    assert (parameters.source, parameters.length) == (parameters.destination, 2048)
    assert dump.problems == ()
    assert list(kernel_dump.section_problems(dump)) == []
    assert kernel_dump.write(dump) == data


u64 = st.integers(0, (1 << 64) - 1)
sections = st.builds(
    Section,
    type=st.sampled_from([int(kind) for kind in SectionType]) | st.integers(0, 0xFFFF),
    source=u64,
    length=u64,
    destination=u64,
    dumped=u64,
    error_flags=st.integers(0, 0xFFFF),
    request_flags=st.integers(0, 0xFFFFFFFF),
)


@given(
    st.lists(sections, min_size=1, max_size=kernel_dump.MAX_SECTIONS),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=100),
)
def test_what_is_written_is_read(found, status, time, tail) -> None:
    dump = KernelDump(tuple(found), status, max_time_auto=time)
    data = kernel_dump.write(dump)
    assert len(data) == 0x28 + 0x28 * len(found) <= 512, "version 1 allows 512 bytes"
    assert kernel_dump.read(data) == dump
    assert kernel_dump.read(data + tail) == dump, "properties may be padded"
    for section in dump.sections:
        assert section in dump.of_type(section.type)
        assert section.name


def test_a_header_that_has_grown_is_read_from_where_it_says() -> None:
    grown = BY_HAND[:8] + bytes.fromhex("00000030") + BY_HAND[12:40] + bytes(8) + BY_HAND[40:]
    assert kernel_dump.read(grown).sections == kernel_dump.read(BY_HAND).sections


@pytest.mark.parametrize(
    ("at", "field", "said"),
    [
        (0, "00000002", "version 2"),
        (4, "0009", "9 sections announced, 3 fit"),
        (6, "2000", "the platform reports a dump error"),
        (12, "00000200", "names a dump disk"),
    ],
)
def test_what_is_odd_and_readable_is_a_problem(at, field, said) -> None:
    raw = bytes.fromhex(field)
    dump = kernel_dump.read(BY_HAND[:at] + raw + BY_HAND[at + len(raw) :])
    assert len(dump.sections) == 3
    assert any(said in problem.what for problem in dump.problems)


def test_more_sections_than_allowed_are_read_but_not_without_end() -> None:
    section = BY_HAND[40:80]
    for count, read in ((11, 11), (65535, 256)):
        dump = kernel_dump.read(
            BY_HAND[:4] + struct.pack(">H", count) + BY_HAND[6:40] + section * count
        )
        assert len(dump.sections) == read
        assert any(f"{count} sections, 10 allowed" in str(p) for p in dump.problems)


def test_what_was_registered_and_never_performed_is_said() -> None:
    registered = KernelDump((Section(SectionType.CPU_STATE, 0, 32, 4096),))
    said = [str(p) for p in kernel_dump.section_problems(registered)]
    assert any("no dump was performed" in text for text in said)
    assert kernel_dump.read(kernel_dump.write(registered)).problems == (), "to register is no fault"


@pytest.mark.parametrize("flag", list(ErrorFlag))
def test_each_error_flag_of_the_platform_is_named(flag) -> None:
    dump = KernelDump((Section(1, 0, 32, 4096, 32, error_flags=int(flag)),), 0xC000)
    (problem,) = kernel_dump.section_problems(dump)
    assert str(problem) == (
        f"ibm,kernel-dump, section 0 (CPU_STATE): error flags {int(flag):#06x} ({flag.name}); "
        "what the section holds was used as far as it makes sense"
    )


@pytest.mark.parametrize(
    ("dumped", "said"), [(31, "the rest is missing"), (33, "only the requested")]
)
def test_another_length_than_requested_is_said(dumped, said) -> None:
    dump = KernelDump((Section(1, 0, 32, 4096, dumped),), 0xC000)
    (problem,) = kernel_dump.section_problems(dump)
    assert said in problem.meaning


def everything(data: bytes) -> None:
    dump = kernel_dump.read(data)
    assert len(dump.sections) <= 256
    for problem in (*dump.problems, *kernel_dump.section_problems(dump)):
        assert problem.what
        assert "\n" not in str(problem)


def test_a_cut_structure_is_refused_or_says_what_is_lost() -> None:
    cut = cut_short(BY_HAND)
    assert refused(everything, cut) == 80, "without one whole section there is nothing"
    assert all(kernel_dump.read(data).problems for data in cut[80:])


def test_every_field_at_extreme_values_is_read_or_refused() -> None:
    for width in (2, 4, 8):
        refused(everything, words_at_extremes(BY_HAND, width, "big"))


@given(flipped(BY_HAND))
def test_flipped_bits_are_read_or_refused(data) -> None:
    refused(everything, [data])


def test_sections_inside_of_the_header_are_refused() -> None:
    with pytest.raises(BadRecord, match="inside the header"):
        kernel_dump.read(BY_HAND[:8] + bytes(4) + BY_HAND[12:])


@pytest.mark.parametrize(
    "section", [Section(-1, 0, 0, 0), Section(0x10000, 0, 0, 0), Section(1, 1 << 64, 0, 0)]
)
def test_a_value_that_does_not_fit_its_field_is_not_written(section) -> None:
    with pytest.raises(BadRecord):
        kernel_dump.write(KernelDump((section,)))
