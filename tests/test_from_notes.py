"""From notes to a Dump: whoever wrote them, and whatever was done to them since."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.formats import ppc_notes
from phypan.from_notes import dump_from_notes, read_core_notes
from phypan.memory import EVERYWHERE, Extent, Memory, PageState
from phypan.stores import BytesStore
from tests import synthetic

WORDS = list(range(1000, 1048))
KERNEL_MSR = 0x8000000000001032


def opened(block: bytes, order="big", memory=None, **more):
    notes = read_core_notes([block], order)
    return dump_from_notes("test", notes, memory or Memory([]), **more)


def said(dump) -> list[str]:
    return [str(problem) for problem in dump.problems]


def words(msr: int) -> list[int]:
    return [*WORDS[:33], msr, *WORDS[34:]]


def vmcoreinfo(order="big", text=synthetic.VMCOREINFO) -> bytes:
    return synthetic.note(b"VMCOREINFO", 0, text, order)


def description(order="big", **content) -> bytes:
    return synthetic.note(b"PHYPAN", ppc_notes.NT_DESCRIPTION, json.dumps(content).encode(), order)


@pytest.mark.parametrize("order", ["big", "little"])
def test_notes_of_qemu_are_numbered_from_one(order) -> None:
    msr = KERNEL_MSR | (order == "little")
    block = b"".join(synthetic.prstatus(order, pid, words(msr)) for pid in (3, 1))
    dump = opened(block + vmcoreinfo(order), order)
    assert [cpu.number for cpu in dump.cpus] == [0, 2]
    assert dump.cpus[0].kernel.words == tuple(words(msr))
    assert dump.byte_order == order
    assert dump.crash_time == 1700000000
    assert said(dump) == []


def test_notes_of_the_kernel_are_all_of_process_0_and_counted() -> None:
    block = b"".join(synthetic.prstatus("big", 0, words(KERNEL_MSR)) for _ in range(3))
    assert [cpu.number for cpu in opened(block + vmcoreinfo()).cpus] == [0, 1, 2]


def test_a_file_of_the_wrong_byte_order_is_read_as_the_cpus_ran() -> None:
    """QEMU 7 wrote little-endian guests into big-endian files."""
    dump = opened(synthetic.prstatus("big", 1, words(KERNEL_MSR | 1)) + vmcoreinfo())
    assert dump.byte_order == "little"
    assert "the file is big-endian, the CPUs ran little-endian" in said(dump)[0]


def test_phypans_own_files_are_of_the_byte_order_that_they_say() -> None:
    block = synthetic.prstatus("big", 1, words(KERNEL_MSR | 1)) + vmcoreinfo()
    assert opened(block + description(phypan="1")).byte_order == "big"


def test_register_notes_belong_to_the_status_before_them() -> None:
    block = (
        synthetic.note(b"CORE", 6, b"auxv", "big")
        + synthetic.prstatus("big", 1, words(KERNEL_MSR))
        + synthetic.note(b"CORE", 2, b"fp", "big")
        + synthetic.note(b"LINUX", 0x100, b"vmx", "big")
        + synthetic.prstatus("big", 2, words(KERNEL_MSR))
        + synthetic.note(b"OTHER", 7, b"other", "big")
        + vmcoreinfo()
    )
    dump = opened(block)
    assert [[note.data for note in cpu.notes] for cpu in dump.cpus] == [[b"fp", b"vmx"], []]
    assert [note.data for note in dump.notes] == [b"auxv", b"other"]


def test_a_status_that_is_too_short_is_said() -> None:
    block = synthetic.note(b"CORE", 1, bytes(100), "big") + synthetic.prstatus(
        "big", 2, words(KERNEL_MSR)
    )
    dump = opened(block + vmcoreinfo())
    assert [cpu.number for cpu in dump.cpus] == [1]
    assert any("a CPU's registers are lost" in text for text in said(dump))


def test_notes_that_are_cut_off_are_said() -> None:
    block = synthetic.prstatus("big", 1, words(KERNEL_MSR)) + vmcoreinfo()
    dump = opened(block[:-4])
    assert dump.vmcoreinfo is None
    assert any("does not fit" in text for text in said(dump))
    assert any("no VMCOREINFO note" in text for text in said(dump))


def test_without_the_note_vmcoreinfo_is_looked_for_in_memory() -> None:
    store = BytesStore(bytes(4096) + vmcoreinfo() + bytes(100))
    dump = opened(b"", memory=Memory([Extent(0, store.size, store, 0)]))
    assert dump.vmcoreinfo.text == synthetic.VMCOREINFO
    assert "no VMCOREINFO note, but one in memory" in said(dump)[0]


def test_the_page_size_of_a_header_is_no_guess() -> None:
    dump = opened(b"", page_size=4096)
    assert dump.page_size == 4096
    assert not any("page size" in text for text in said(dump))
    assert any("65536 is assumed" in text for text in said(opened(b"")))


def raw(kind: int, data: bytes) -> bytes:
    return synthetic.note(b"PHYPAN", kind, data, "big")


def test_raw_areas_make_the_full_dump() -> None:
    partition = synthetic.Partition()
    area = bytes(partition.ram[partition.save : partition.copy])
    info = bytes(partition.ram[partition.header : partition.end])
    dump = opened(
        synthetic.prstatus("big", 1, words(KERNEL_MSR))
        + vmcoreinfo()
        + raw(ppc_notes.NT_KERNEL_DUMP, partition.property)
        + raw(ppc_notes.NT_REGSAVE, area)
        + raw(ppc_notes.NT_CRASH_INFO, info)
        + raw(0x50485099, b"of a later phypan")
    )
    assert said(dump) == []
    assert [dict(cpu.firmware) for cpu in dump.cpus] == list(partition.cpus.values())
    assert dump.crashing_cpu.number == 1
    assert len(dump.kernel_dump.sections) == 2
    assert dump.raw[0x50485099] == b"of a later phypan"


def test_the_crashing_cpu_is_known_by_its_number_not_by_its_place() -> None:
    """Of a dump without firmware's registers only the crashing CPU is there."""
    info = synthetic.crash_info("big", 5, WORDS, 0x3F, (0, 0))
    block = synthetic.prstatus("big", 6, WORDS) + raw(ppc_notes.NT_CRASH_INFO, info)
    (cpu,) = opened(block + vmcoreinfo()).cpus
    assert (cpu.number, cpu.crashing) == (5, True)


@pytest.mark.parametrize(
    "kind",
    [
        ppc_notes.NT_KERNEL_DUMP, ppc_notes.NT_REGSAVE,
        ppc_notes.NT_HPTESAVE, ppc_notes.NT_CRASH_INFO,
    ],
)  # fmt: skip
def test_a_damaged_area_is_left_out_and_said(kind) -> None:
    block = synthetic.prstatus("big", 1, words(KERNEL_MSR)) + raw(kind, b"damaged") + vmcoreinfo()
    dump = opened(block)
    (line,) = said(dump)
    assert f"PHYPAN note {kind:#x}" in line
    assert [cpu.number for cpu in dump.cpus] == [0]
    assert dump.raw[kind] == b"damaged"


def test_problems_of_the_source_stay_known_and_are_said_once() -> None:
    partition = synthetic.Partition()
    short = synthetic.kernel_dump(synthetic.section(1, 0, 100, 4096, dumped=50, error=0x2000))
    told = [
        ["what", "where", "meaning"],
        [
            "0x32 bytes dumped, 0x64 requested", "ibm,kernel-dump, section 0 (CPU_STATE)",
            "the rest is missing",
        ],
    ]  # fmt: skip
    block = (
        synthetic.prstatus("big", 1, words(KERNEL_MSR))
        + vmcoreinfo()
        + raw(ppc_notes.NT_KERNEL_DUMP, short)
        + description(problems=told)
    )
    dump = opened(block)
    assert said(dump)[0] == "where: what; meaning"
    assert sum("bytes dumped" in text for text in said(dump)) == 1
    assert sum("LENGTH_EXCEEDS_SOURCE" in text for text in said(dump)) == 1
    assert partition


def test_what_the_description_tells_is_taken() -> None:
    holes = [[0x1000, 0x1000, "excluded", "filtered"], [0x3000, 1, "absent", "never there"]]
    block = synthetic.prstatus("big", 1, words(KERNEL_MSR)) + vmcoreinfo(
        text=b"OSRELEASE=1\nPAGESIZE=4096"
    )
    notes = read_core_notes(
        [block + description(holes=holes, crash_time=77, incomplete=True)], "big"
    )
    assert [(h.start, h.size, h.state, h.why) for h in notes.holes()] == [
        (0x1000, 0x1000, PageState.EXCLUDED, "filtered"),
        (0x3000, 1, PageState.ABSENT, "never there"),
    ]
    dump = dump_from_notes("test", notes, Memory([]))
    assert dump.incomplete
    assert dump.crash_time == 77
    assert dump.vmcoreinfo.text == b"OSRELEASE=1\nPAGESIZE=4096\nCRASHTIME=77\n"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)
tables = st.lists(
    st.tuples(anything, anything, anything, anything) | st.tuples(anything, anything), max_size=4
)


@given(st.fixed_dictionaries(
    {}, optional={"holes": tables | anything, "problems": tables | anything,
                  "crash_time": anything, "incomplete": anything, "phypan": anything},
))  # fmt: skip
def test_any_json_is_borne(content) -> None:
    notes = read_core_notes([vmcoreinfo() + description(**content)], "big")
    dump = dump_from_notes("test", notes, Memory([], notes.holes()))
    assert dump.crash_time == 1700000000
    assert all(type(problem.what) is str for problem in dump.problems)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"7", b"{", b"\xff\xfe", b"[" * 100000, b'{"holes": [[1e999, 1, "absent", ""]]}'],
)
def test_a_description_that_is_none_is_borne(text) -> None:
    note = synthetic.note(b"PHYPAN", ppc_notes.NT_DESCRIPTION, text, "big")
    notes = read_core_notes([vmcoreinfo() + note], "big")
    assert list(notes.holes()) == []
    dump_from_notes("test", notes, Memory([]))


@pytest.mark.parametrize(
    "hole",
    [
        [-1, 5, "absent", ""], [0, -1, "absent", ""], [0, EVERYWHERE + 1, "absent", ""],
        [EVERYWHERE, 1, "absent", ""], [0, 1, "present?", ""], [0.5, 1, "absent", ""],
        [True, 1, "absent", ""], ["0", 1, "absent", ""], [0, 1, "absent", 7], [0, 1, "absent"],
        [10**400, 1, "absent", ""],
    ],
)  # fmt: skip
def test_a_hole_that_cannot_be_is_left_out(hole) -> None:
    assert list(read_core_notes([description(holes=[hole])], "big").holes()) == []


def test_megabytes_of_description_cost_little() -> None:
    many = [["what", f"where {n}", "meaning"] for n in range(50_000)]
    holes = [[2 * n, 1, "absent", ""] for n in range(50_000)]
    began = time.process_time()
    notes = read_core_notes([description(problems=many, holes=holes)], "big")
    Memory([], notes.holes())
    assert len(notes.problems) <= 1000
    assert time.process_time() - began < 10, "about 1 s on an idle machine"


def test_more_cpus_than_there_are_is_said() -> None:
    one = synthetic.prstatus("big", 0, [])
    dump = opened(one * 65540 + vmcoreinfo())
    assert len(dump.cpus) == 65536
    assert "65540 CPUs" in said(dump)[0]
