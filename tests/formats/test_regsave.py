"""Register save areas: by hand, QEMU's own, a second reader, every identifier, and damage."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phypan
from phypan.errors import BadRecord
from phypan.formats import ppc_notes, regsave
from phypan.formats.regsave import CpuState, Kind, RegisterSaveArea
from tests.damage import cut_short, flipped, refused, words_at_extremes
from tests.reference import regsave as reference

# Written by hand from LoPAR's tables: two CPUs, LoPAR's layout.
LOPAR = bytes.fromhex(
    "5245475341564500 00000000 0000001C 000000000000000000000000 00000002"  # REGSAVE, two CPUs
    "4350555354525400 00000000 00000000"  # CPUSTRT 0
    "4750523031000000 c000000001e0b9f0"  # GPR01
    "4e49410000000000 c000000000028a34"  # NIA
    "4d53520000000000 8000000000001032"  # MSR
    "435055454e440000 00000000 00000000"  # CPUEND 0
    "4350555354525400 00000000 00000001"  # CPUSTRT 1
    "4750523031000000 c000000001e2b9f0"  # GPR01
    "435055454e440000 00000000 00000001"  # CPUEND 1
)
CPUS = (
    CpuState(
        0, {"GPR01": 0xC000000001E0B9F0, "NIA": 0xC000000000028A34, "MSR": 0x8000000000001032}
    ),
    CpuState(1, {"GPR01": 0xC000000001E2B9F0}),
)
# The same entries as QEMU lays them out: the count at 0x10, entries from 0x14, 12 bytes of garbage.
QEMU = LOPAR[:12] + bytes.fromhex("00000010 00000002") + LOPAR[0x20:] + b"\xde\xad\xbe\xef" * 3


@pytest.mark.parametrize("area", [LOPAR, QEMU, LOPAR + bytes(1000), LOPAR + LOPAR[0x20:]])
def test_an_area_written_by_hand_is_read(area) -> None:
    read = regsave.read(area)
    assert read.cpus == CPUS
    assert read.problems == ()
    assert read.num_cpus_offset == area[15]


def test_what_is_written_is_what_was_written_by_hand() -> None:
    assert regsave.write(CPUS) == LOPAR
    assert regsave.write(CPUS, layout="qemu", tail=b"\xde\xad\xbe\xef" * 3) == QEMU


def test_the_identifiers_are_lopars_502() -> None:
    ours = {regsave.CPU_START, regsave.CPU_END, *regsave.REGISTERS}
    assert ours == {"CPUSTRT", "CPUEND", *reference.NAMES}
    assert len(ours) == 502
    assert all(len(name) <= 8 and name.isascii() for name in ours)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("GPR00", 0x4750523030000000),
        ("GPR31", 0x4750523331000000),
        ("NIA", 0x4E49410000000000),
        ("MSR", 0x4D53520000000000),
        ("CTR", 0x4354520000000000),
        ("LR", 0x4C52000000000000),
        ("XER", 0x5845520000000000),
        ("CR", 0x4352000000000000),
        ("DAR", 0x4441520000000000),
        ("DSISR", 0x4453495352000000),
        ("VSR63_LO", 0x56535236335F4C4F),
        ("X-VS51LO", 0x582D565335314C4F),
    ],
)
def test_an_identifier_is_the_number_that_linux_compares(name, number) -> None:
    entry = regsave.write([CpuState(0, {name: 1})])[0x30:0x38]
    assert int.from_bytes(entry, "big") == number


def test_every_register_has_a_kind() -> None:
    kinds = list(regsave.REGISTERS.values())
    assert {kind: kinds.count(kind) for kind in Kind} == {
        Kind.GPR: 32, Kind.FPR: 32, Kind.VR: 64, Kind.VSR: 128,
        Kind.SPR: 73, Kind.CHECKPOINTED: 32 + 128 + 11,
    }  # fmt: skip
    assert all(
        (kind is Kind.CHECKPOINTED) == name.startswith("X-")
        for name, kind in regsave.REGISTERS.items()
    )


@pytest.mark.parametrize(
    ("printed", "meant"), [(b"MMCR@", "MMCRA"), (b"PIMC6", "PMC6"), (b"X-VSU1LO", "X-VS51LO")]
)
def test_lopars_misprints_are_tolerated(printed, meant) -> None:
    area = LOPAR.replace(b"GPR01\0\0\0", printed.ljust(8, b"\0"))
    read = regsave.read(area)
    assert read.cpus[1].registers == {meant: 0xC000000001E2B9F0}
    assert read.problems == ()


@pytest.mark.parametrize("name", sorted(regsave.FOUR_BYTES))
def test_a_register_of_four_bytes_has_reserved_bytes_before_it(name) -> None:
    area = regsave.write([CpuState(0, {name: 0xDEADBEEF12345678})])
    assert regsave.read(area).cpus[0].registers == {name: 0x12345678}


values = st.integers(0, (1 << 64) - 1)
all_names = sorted([*regsave.REGISTERS, *regsave.LATER_REGISTERS])


def fitting(registers: dict[str, int]) -> dict[str, int]:
    return {n: v % (1 << 32) if n in regsave.FOUR_BYTES else v for n, v in registers.items()}


states = st.builds(
    CpuState,
    st.integers(0, (1 << 32) - 1),
    st.dictionaries(st.sampled_from(all_names), values, max_size=20).map(fitting),
)


@given(
    st.lists(states, min_size=1, max_size=5),
    st.sampled_from(["lopar", "qemu"]),
    st.binary(max_size=40),
)
def test_what_is_written_is_read(cpus, layout, tail) -> None:
    read = regsave.read(regsave.write(cpus, layout=layout, tail=tail))
    assert read == RegisterSaveArea(tuple(cpus), 0, 0x1C if layout == "lopar" else 0x10)
    assert read.problems == ()
    for ours, theirs in zip(read.cpus, cpus, strict=True):
        assert list(ours.registers) == list(theirs.registers), "in stored order"


@given(st.lists(values, min_size=len(all_names), max_size=len(all_names)), st.randoms())
def test_all_identifiers_in_any_order(numbers, random) -> None:
    names = list(all_names)
    random.shuffle(names)
    cpu = CpuState(7, fitting(dict(zip(names, numbers, strict=True))))
    assert regsave.read(regsave.write([cpu])).cpus == (cpu,)


lopars = sorted(regsave.REGISTERS)
entries = st.lists(
    st.tuples(st.sampled_from(["CPUSTRT", "CPUEND"] * 20 + lopars), values), max_size=40
)


@given(entries, st.integers(0, 6), st.sampled_from([0x10, 0x1C, 0x24]), st.binary(max_size=20))
def test_a_second_reader_finds_the_same_in_any_area(found, count, at, tail) -> None:
    """Random entries: CPUs without end, without begin, one in another, registers outside."""
    area = (
        b"REGSAVE\0" + bytes(4) + at.to_bytes(4, "big") + bytes(at - 16) + count.to_bytes(4, "big")
    )
    for name, value in found:
        area += name.encode().ljust(8, b"\0") + value.to_bytes(8, "big")
    area += tail
    assert [(cpu.number, dict(cpu.registers)) for cpu in regsave.read(area).cpus] == reference.cpus(
        area
    )


@given(st.lists(states, max_size=5))
def test_a_second_reader_reads_what_we_write(cpus) -> None:
    known = [
        CpuState(cpu.number, {n: v for n, v in cpu.registers.items() if n in regsave.REGISTERS})
        for cpu in cpus
    ]
    assert reference.cpus(regsave.write(known)) == [(c.number, dict(c.registers)) for c in known]


def save_area(real) -> bytes:
    """QEMU's own area, cut out of the RAM of the second boot."""
    with phypan.open(real.path) as dump:
        return dump.raw[ppc_notes.NT_REGSAVE]


def test_qemus_own_area_is_read_as_its_own_registers_say(real) -> None:
    """registers.json is from QEMU's migration stream; LR, CTR, XER and CFAR QEMU saves as 0."""
    read = regsave.read(save_area(real))
    assert read.problems == ()
    assert read.num_cpus_offset == 0x10
    assert [cpu.number for cpu in read.cpus] == [0, 1]
    with phypan.open(real.path) as dump:
        crashed = dump.crashing_cpu.number
    for cpu, truth in zip(read.cpus, real.registers, strict=True):
        assert len(cpu.registers) == 77, "79 entries with the two markers"
        for n, value in enumerate(truth["gpr"]):
            if not (n == 3 and cpu.number == crashed):
                assert cpu.registers[f"GPR{n:02}"] == int(value, 16)
        for ours, theirs in {
            "NIA": "nip",
            "MSR": "msr",
            "CR": "cr",
            "PVR": "pvr",
            "DAR": "dar",
        }.items():
            assert cpu.registers[ours] == int(truth[theirs], 16)
        for name in ("LR", "CTR", "XER", "CFAR"):
            assert cpu.registers[name] == 0


def test_a_second_reader_finds_the_same_in_qemus_own_area(real) -> None:
    area = save_area(real)
    ours = regsave.read(area).cpus
    theirs = reference.cpus(area)
    assert [cpu.number for cpu in ours] == [number for number, _ in theirs]
    for cpu, (_, registers) in zip(ours, theirs, strict=True):
        assert {n: v for n, v in cpu.registers.items() if n in regsave.REGISTERS} == registers


def test_a_vector_is_put_together_from_its_halves() -> None:
    cpu = CpuState(0, {"VR07_HI": 0x0011223344556677, "VR07_LO": 0x8899AABBCCDDEEFF})
    assert cpu.vector("VR07_HI", "VR07_LO").hex() == "00112233445566778899aabbccddeeff"
    assert cpu.vector("VR08_HI", "VR08_LO") is None
    assert cpu.vector("VR07_HI", "VR08_LO") is None


def problems(area: bytes) -> list[str]:
    return [str(problem) for problem in regsave.read(area).problems]


START, NIA, END = (LOPAR[at : at + 16] for at in (0x20, 0x40, 0x60))


@pytest.mark.parametrize(
    ("area", "numbers", "said"),
    [
        (LOPAR[:8] + b"\0\0\0\1" + LOPAR[12:], [0, 1], "version 1, not 0"),
        (LOPAR[:0x1C] + b"\0\0\0\3" + LOPAR[0x20:], [0, 1], "3 CPUs announced, 2 found"),
        (LOPAR[:0x1C] + b"\0\0\0\0" + LOPAR[0x20:], [], "0 CPUs announced"),
        (LOPAR.replace(END, b""), [0, 1], "CPU 0 has no end"),
        (LOPAR.replace(NIA, NIA + b"GARBAGE!12345678"), [0, 1], "unknown identifiers: GARBAGE!"),
        (LOPAR.replace(NIA, NIA + NIA), [0, 1], "CPU 0 has NIA twice"),
        (LOPAR.replace(START, END), [1], "the end of a CPU that did not begin"),
        (LOPAR.replace(END, END + NIA), [0], "NIA stands outside a CPU"),
        (LOPAR.replace(END, END[:15] + b"\7"), [0, 1], "CPU 0 ends as CPU 7"),
        (LOPAR[:0x90], [0, 1], "the area ends inside CPU 1"),
    ],
)
def test_what_is_odd_is_said_and_the_rest_is_read(area, numbers, said) -> None:
    if said == "the end of a CPU that did not begin":
        area = area.replace(NIA, b"").replace(LOPAR[0x30:0x40], b"").replace(LOPAR[0x50:0x60], b"")
    assert [cpu.number for cpu in regsave.read(area).cpus] == numbers
    assert any(said in text for text in problems(area)), problems(area)


def test_an_unknown_identifier_is_kept_under_a_name_that_can_be_printed() -> None:
    for raw, name in ((b"NEWREG\0\0", "NEWREG"), (b"\1\2\0\0\0\0\0\0", "0102000000000000"),
                      (b"\xff" + bytes(7), "\\xff"), (bytes(8), "0" * 16)):  # fmt: skip
        read = regsave.read(LOPAR.replace(b"NIA" + bytes(5), raw))
        assert name in read.cpus[0].registers
        assert all(n.isprintable() for n in read.cpus[0].registers)


def test_a_cut_area_keeps_what_is_whole() -> None:
    for size in range(0x20, len(LOPAR)):
        read = regsave.read(LOPAR[:size])
        entries = (size - 0x20) // 16
        assert sum(len(cpu.registers) for cpu in read.cpus) == sum(
            1 for n in range(entries) if n not in (0, 4, 5, 7)
        )
        assert read.problems or size == len(LOPAR)
    assert refused(regsave.read, cut_short(LOPAR[:0x20])) == 0x20


@pytest.mark.parametrize("at", [0, 15, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, len(LOPAR) - 3])
def test_a_count_outside_of_the_area_is_refused(at) -> None:
    with pytest.raises(BadRecord, match="CPU count"):
        regsave.read(LOPAR[:12] + at.to_bytes(4, "big") + LOPAR[16:])


def test_every_word_at_extreme_values_is_read_or_refused() -> None:
    for area in (LOPAR, QEMU):
        refused(regsave.read, words_at_extremes(area, 4, "big"))


@given(flipped(LOPAR))
def test_flipped_bits_are_read_or_refused(area) -> None:
    refused(regsave.read, [area])


@pytest.mark.parametrize("what", ["cpus", "registers", "ends", "unknown"])
def test_a_megabyte_of_nonsense_costs_little(what) -> None:
    count = (1 << 20) // 16
    nonsense = {
        "cpus": (START + END) * (count // 2),
        "registers": START + NIA * count,
        "ends": END * count,
        "unknown": START + b"".join(b"%08d" % n + bytes(8) for n in range(count)),
    }[what]
    area = LOPAR[:0x1C] + b"\xff\xff\xff\xff" + nonsense
    began = time.process_time()
    tracemalloc.start()
    read = regsave.read(area)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(read.cpus) <= regsave.MAX_CPUS
    assert 0 < len(read.problems) < 50
    assert peak < 24 << 20
    assert time.process_time() - began < 20, "well below one second without tracing"


@pytest.mark.parametrize(
    "cpu",
    [
        CpuState(0, {"TOOLONGNAME": 1}),
        CpuState(0, {"": 1}),
        CpuState(0, {"NIÄ": 1}),
        CpuState(0, {"NIA": 1 << 64}),
        CpuState(0, {"NIA": -1}),
        CpuState(1 << 32, {}),
    ],
)
def test_what_is_no_entry_is_not_written(cpu) -> None:
    with pytest.raises(BadRecord):
        regsave.write([cpu])
