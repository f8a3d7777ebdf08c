"""The notes of a core file: everything of a Dump but its memory.

What each reader needs, and why they are not just those of /proc/vmcore:

- gdb: each CPU's notes together; a pr_pid that is unique and not 0, as the kernel's are.
- crash: one NT_PRSTATUS for each online CPU, in ascending order.
- drgn: pr_pid is the CPU number plus 1, and no CRASHTIME in VMCOREINFO: with one it looks for the
  registers in crash_notes, which firmware-assisted dumps never fill. The time is kept in a note.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Literal

from phypan.dump import Cpu, Dump
from phypan.extents import Hole
from phypan.formats import ppc_notes
from phypan.formats.elfcore import Note
from phypan.formats.pt_regs import PtRegs
from phypan.formats.regsave import CpuState
from phypan.memory import Memory
from phypan.pages.state import PageState

NoteRegisters = Literal["os", "firmware", "drgn"]
_MAX_PID = (1 << 31) - 1  # no machine has so many CPUs; a damaged save area may say so


def core_notes(dump: Dump, registers: NoteRegisters = "os") -> Iterator[Note]:
    """The notes of a core file of `dump`.

    registers  what NT_PRSTATUS gets: "os" as the kernel would have written it; "firmware" what
               the firmware saved, of the crashing CPU too; "drgn" as "os", but arranged for drgn
               on kernels before 6.5, where it takes the program counter from LR
    """
    # Behind a CPU's status those of its names would be taken for its registers.
    names = (ppc_notes.CORE, ppc_notes.LINUX)
    yield from (note for note in dump.notes if note.name in names)
    for cpu in dump.cpus:
        if not cpu.online and registers != "firmware":
            continue  # as the kernel: crash takes the notes for those of the online CPUs
        yield from _cpu_notes(cpu, dump, registers)
    if dump.vmcoreinfo is not None:
        text = dump.vmcoreinfo.without("CRASHTIME").text
        yield Note(ppc_notes.VMCOREINFO, 0, text)
    yield from (note for note in dump.notes if note.name not in names)
    for kind, area in sorted(dump.raw.items()):
        yield Note(ppc_notes.PHYPAN, kind, area)
    yield Note(ppc_notes.PHYPAN, ppc_notes.NT_DESCRIPTION, _description(dump))


def _cpu_notes(cpu: Cpu, dump: Dump, registers: NoteRegisters) -> Iterator[Note]:
    regs = cpu.regs("firmware" if registers == "firmware" else "os")
    if registers == "drgn":
        regs = _for_drgn(cpu, regs, dump)
    others = list(cpu.notes)
    if cpu.firmware is not None:
        state = CpuState(cpu.number, cpu.firmware)
        others = list(ppc_notes.register_notes(state, dump.byte_order))
    fpvalid = any(note.type == ppc_notes.NT_PRFPREG for note in others)
    status = ppc_notes.Prstatus(min(cpu.number + 1, _MAX_PID), regs)
    yield ppc_notes.write_prstatus(status, dump.byte_order, fpvalid=fpvalid)
    yield from others


# drgn (libdrgn/arch_ppc64.c) takes the program counter from LR but for these releases and later.
_NIP_SINCE = ((6, 5, 0), (6, 4, 4), (6, 3, 13), (6, 1, 39), (5, 15, 121))


def _for_drgn(cpu: Cpu, regs: PtRegs, dump: Dump) -> PtRegs:
    """`regs` with the firmware's NIA where drgn looks for it; the kernel's own suit it already."""
    name = dump.vmcoreinfo.release if dump.vmcoreinfo else None
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", name or "")
    if match is None or cpu.kernel is not None:
        return regs
    release = tuple(int(part or 0) for part in match.groups())
    same = [since for since in _NIP_SINCE if since[:2] == release[:2]]
    if release >= _NIP_SINCE[0] or (same and release >= same[0]):
        return regs
    return regs.replace(link=regs["nip"])


_MAX_HOLES = 4096


def _holes(memory: Memory) -> list[Hole]:
    """The holes; of very many only those that no filter made, which bitmaps know of anyway."""
    holes = list(islice(memory.holes(), _MAX_HOLES + 1))
    if len(holes) > _MAX_HOLES:
        unusual = (hole for hole in memory.holes() if hole.state is not PageState.EXCLUDED)
        holes = list(islice(unusual, _MAX_HOLES))
    return holes


def _description(dump: Dump) -> bytes:
    """What has no other place, as JSON."""
    holes = [[h.start, h.size, h.state.value, h.why] for h in _holes(dump.memory)]
    problems = [[p.what, p.where, p.meaning] for p in dump.problems]
    return json.dumps(
        {
            "phypan": _version(),
            "source": dump.source,
            "crash_time": dump.crash_time,
            "incomplete": dump.incomplete,
            "holes": holes,
            "problems": problems,
        }
    ).encode()


def _version() -> str:
    try:
        return version("phypan")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"
