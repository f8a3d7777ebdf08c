"""From a Dump to the notes of a core file: which notes, whose registers, in which order."""

from __future__ import annotations

import json

import pytest

from phypan.dump import Cpu, Dump
from phypan.errors import Problem
from phypan.formats import ppc_notes, pt_regs, vmcoreinfo
from phypan.formats.elfcore import Note
from phypan.memory import Hole, Memory, PageState
from phypan.to_notes import core_notes
from tests import synthetic

KERNEL = pt_regs.of(range(1, 49))
FIRMWARE = {"NIA": 0x111, "LR": 0x222, "GPR01": 0x333}


def dump(**more) -> Dump:
    cpus = (
        Cpu(0, FIRMWARE),
        Cpu(2, FIRMWARE, KERNEL, crashing=True),
        Cpu(3, FIRMWARE, online=False),
    )
    text = vmcoreinfo.read(more.pop("text", synthetic.VMCOREINFO))
    return Dump("test", Memory([]), cpus, vmcoreinfo=text, crash_time=1700000000, **more)


def statuses(notes) -> dict[int, pt_regs.PtRegs]:
    read = [
        ppc_notes.read_prstatus(note.data, "big")
        for note in notes
        if note.name == b"CORE" and note.type == 1
    ]
    return {status.pid: status.regs for status in read}


def test_each_online_cpu_has_a_status_as_the_kernel_would_write_it() -> None:
    found = statuses(core_notes(dump()))
    assert list(found) == [1, 3], "in ascending order, the number of the CPU plus 1"
    assert found[1] == pt_regs.from_firmware(FIRMWARE)
    assert found[3] == KERNEL


def test_the_firmwares_registers_of_every_cpu_on_request() -> None:
    found = statuses(core_notes(dump(), "firmware"))
    assert set(found) == {1, 3, 4}
    assert all(regs == pt_regs.from_firmware(FIRMWARE) for regs in found.values())


# drgn's rule (libdrgn/arch_ppc64.c): the program counter is word 36, LR, before these releases.
@pytest.mark.parametrize(
    ("release", "moved"),
    [
        ("2.6.32-131.0.15.el6.ppc64", True), ("3.0.101", True), ("5.15.120", True),
        ("5.15.121", False), ("5.16.0", True), ("6.1.38", True), ("6.1.39-rt", False),
        ("6.2.16", True), ("6.3.12", True), ("6.3.13", False), ("6.4.3", True), ("6.4.4", False),
        ("6.4", True), ("6.5.0", False), ("6.12.107", False), ("7.0.0", False), ("nonsense", False),
    ],
)  # fmt: skip
def test_for_drgn_the_program_counter_is_where_it_looks_for_that_release(release, moved) -> None:
    text = synthetic.VMCOREINFO.replace(b"6.12.0-synthetic", release.encode())
    found = statuses(core_notes(dump(text=text), "drgn"))
    assert found[1]["link"] == (0x111 if moved else 0x222)
    assert found[1]["nip"] == 0x111
    assert found[3] == KERNEL, "the kernel's own registers suit drgn as they are"


def test_the_time_is_kept_apart_from_vmcoreinfo() -> None:
    notes = list(core_notes(dump()))
    (text,) = [note.data for note in notes if note.name == b"VMCOREINFO"]
    assert text == synthetic.VMCOREINFO.replace(b"CRASHTIME=1700000000\n", b"")
    (told,) = [json.loads(n.data) for n in notes if n.type == ppc_notes.NT_DESCRIPTION]
    assert told["crash_time"] == 1700000000


def test_foreign_notes_and_raw_areas_are_kept() -> None:
    other = Note(b"OTHER", 9, b"data")
    notes = list(core_notes(dump(notes=(other,), raw={0x50485001: b"a", 0x50485099: b"b"})))
    assert other in notes
    early = Note(b"CORE", 6, b"auxv")
    assert next(core_notes(dump(notes=(other, early)))) == early, "else it were of the last CPU"
    assert Note(b"PHYPAN", 0x50485001, b"a") in notes
    assert Note(b"PHYPAN", 0x50485099, b"b") in notes


def test_the_description_says_what_has_no_other_place() -> None:
    found = dump(problems=[Problem("what", "where", "meaning")], incomplete=True)
    found.memory = Memory([], [Hole(16, 16, PageState.DAMAGED, "why")])
    (told,) = [json.loads(n.data) for n in core_notes(found) if n.type == ppc_notes.NT_DESCRIPTION]
    assert told["holes"] == [
        [0, 16, "absent", "no part of the dump covers it"], [16, 16, "damaged", "why"],
    ]  # fmt: skip
    assert told["problems"] == [["what", "where", "meaning"]]
    assert (told["source"], told["incomplete"]) == ("test", True)


def test_a_cpu_of_an_absurd_number_is_written_all_the_same() -> None:
    found = Dump("test", Memory([]), [Cpu(0xFFFFFFFF, FIRMWARE), Cpu(0x7FFFFFFE, FIRMWARE)])
    assert all(0 < pid < 1 << 31 for pid in statuses(core_notes(found)))


def test_a_status_says_whether_there_are_floating_point_registers() -> None:
    names = [*(f"FPR{n:02}" for n in range(32)), "FPSCR"]
    full = {**FIRMWARE, **dict.fromkeys(names, 1)}
    notes = list(core_notes(Dump("test", Memory([]), [Cpu(0, FIRMWARE), Cpu(1, full)])))
    valid = [note.data[499] for note in notes if note.name == b"CORE" and note.type == 1]
    assert valid == [0, 1]
    kinds = [note.type for note in notes]
    assert kinds.index(2) == kinds.index(1, kinds.index(1) + 1) + 1, "behind the status of its CPU"
