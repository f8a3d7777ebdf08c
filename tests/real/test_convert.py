"""The vmcore that phypan makes holds what the one holds that the second kernel made itself."""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path

import phypan
from phypan.formats import elfcore, ppc_notes


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def _kernels_own(real):
    head = real.vmcore_head
    core = elfcore.read(lambda at, size: head[at : at + size], len(head))
    (segment,) = [s for s in core.segments if s.type == elfcore.PT_NOTE]
    notes = elfcore.read_notes(head[segment.offset : segment.offset + segment.filesz], core.order)
    return core, [
        ppc_notes.read_prstatus(note.data, core.order)
        for note in notes
        if note.type == ppc_notes.NT_PRSTATUS and note.name == b"CORE"
    ]


def test_the_vmcore_equals_the_kernels_own(real, folder, phypan_command) -> None:
    done = phypan_command("convert", real.ram, "--regions", real.device_tree, folder / "vmcore")
    assert (done.code, done.err) == (0, "")
    data = _mapped(folder / "vmcore")
    core = elfcore.read(lambda at, size: data[at : at + size], len(data))
    loads = [
        {
            "paddr": load.paddr,
            "vaddr": load.vaddr,
            "size": load.filesz,
            "sha256": hashlib.sha256(data[load.offset : load.offset + load.filesz]).hexdigest(),
        }
        for load in core.loads
    ]
    assert loads == real.loads
    (segment,) = [s for s in core.segments if s.type == elfcore.PT_NOTE]
    notes = elfcore.read_notes(data[segment.offset : segment.offset + segment.filesz], core.order)
    ours = [
        ppc_notes.read_prstatus(note.data, core.order)
        for note in notes
        if note.name == b"CORE" and note.type == ppc_notes.NT_PRSTATUS
    ]
    kernels, theirs = _kernels_own(real)
    assert core.order == kernels.order
    assert [status.regs for status in ours] == [status.regs for status in theirs]
    assert [status.pid for status in ours] == [1, 2], "gdb refuses a core whose pids are all 0"


def test_its_own_vmcore_opens_as_the_full_dump(real, folder) -> None:
    with phypan.open(real.path) as first:
        phypan.convert(first, folder / "vmcore")
        with phypan.open(folder / "vmcore") as second:
            assert second.cpus == first.cpus
            assert second.kernel_dump == first.kernel_dump
            assert second.crash_info == first.crash_info
            assert second.vmcoreinfo == first.vmcoreinfo
            assert second.crash_time == first.crash_time
            assert second.raw == first.raw
            assert list(second.memory.holes()) == list(first.memory.holes())
            assert (second.byte_order, second.page_size) == (first.byte_order, first.page_size)
            assert second.problems == first.problems == []


def test_firmware_registers_on_request(real, folder) -> None:
    with phypan.open(real.path) as dump:
        phypan.convert(dump, folder / "vmcore", registers="firmware")
        crashed = dump.crashing_cpu
        assert crashed is not None
        with phypan.open(folder / "vmcore") as again:
            assert again.cpus == dump.cpus, "the notes with raw areas do not depend on the choice"
    data = _mapped(folder / "vmcore")
    core = elfcore.read(lambda at, size: data[at : at + size], len(data))
    start = core.segments[0].offset
    notes = elfcore.read_notes(data[start : start + core.segments[0].filesz], core.order)
    statuses = [ppc_notes.read_prstatus(n.data, core.order) for n in notes if n.type == 1]
    (status,) = [s for s in statuses if s.pid == crashed.number + 1]
    assert status.regs["nip"] == 0x2FFF0010, "the crashing CPU was preserved inside of RTAS"


def test_registers_are_what_qemu_knew(real) -> None:
    """QEMU 11 saves LR, CTR, XER and CFAR as 0; GPR3 of the CPU that called RTAS has changed."""
    with phypan.open(real.path) as dump:
        for cpu, truth in zip(dump.cpus, real.registers, strict=True):
            assert cpu.number == truth["cpu"]
            for n, value in enumerate(truth["gpr"]):
                if n != 3 or not cpu.crashing:
                    assert cpu[f"GPR{n:02}"] == int(value, 16)
            for name, key in (
                ("NIA", "nip"),
                ("MSR", "msr"),
                ("CR", "cr"),
                ("PVR", "pvr"),
                ("DAR", "dar"),
            ):
                assert cpu[name] == int(truth[key], 16)
