"""The ELF vmcore: one file that crash, drgn, gdb, libkdumpfile and makedumpfile open.

What each of them needs, and why the file is not just what /proc/vmcore is:

- crash: one PT_NOTE and it first, p_align 0 (else it takes the file for a netdump), no PT_LOAD at
  file offset 0, and bit 0 of e_flags for an incomplete dump, although the ELF ABI has another
  meaning for it. So e_flags is 0 or 2, not the 1 that the kernel writes for big-endian.
- gdb: a pr_pid that is not 0, unique among the CPUs. The kernel writes 0.
- drgn: pr_pid is the CPU number plus 1, and no CRASHTIME in VMCOREINFO: with one it looks for the
  registers in crash_notes, which firmware-assisted dumps never fill. The time is kept in a note.
- makedumpfile: the program headers at byte 64.
- drgn and gdb on hashed kernels: neither reads their page tables, so that vmalloc, modules and
  vmemmap are only there if segments say where their bytes are (--virtual). p_paddr is ~0 in these.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Literal

from phypan import (
    Cpu,
    Dump,
    Extent,
    Memory,
    Output,
    Problem,
    Progress,
    Protection,
    Writer,
    __version__,
    hookimpl,
)
from phypan.formats import elfcore, ppc_notes
from phypan.formats.elfcore import ElfCore, Note, Segment
from phypan.formats.pt_regs import PtRegs
from phypan.formats.regsave import CpuState

PAGE_OFFSET = 0xC000000000000000  # effective address of physical address 0 in the linear map
_ALIGN = 65536  # file offsets of data: the largest page size
Registers = Literal["os", "firmware", "drgn"]


def write(
    dump: Dump,
    output: Output,
    progress: Progress,
    *,
    registers: Registers = "os",
    virtual: bool = False,
) -> None:
    """Write the whole dump.

    registers  what NT_PRSTATUS gets: "os" as the kernel would have written it; "firmware" what
               the firmware saved, of the crashing CPU too; "drgn" as "os", but arranged for drgn
               on kernels before 6.5, where it takes the program counter from LR
    virtual    add segments with the effective addresses of vmalloc, modules and vmemmap, so that
               tools which know no page tables read them; they share the bytes of the others
    """
    notes = elfcore.write_notes(_notes(dump, registers), dump.byte_order)
    runs = list(_runs(dump.memory))
    mapped = list(_mapped(dump)) if virtual else []
    head_end = elfcore.head_size(1 + len(runs) + len(mapped))
    note = Segment(elfcore.PT_NOTE, head_end, 0, 0, len(notes), len(notes), flags=0)
    loads = list(_loads(runs, head_end + len(notes)))
    aliases = _aliases(mapped, loads)
    flags = elfcore.EFLAGS_ELFV2 if dump.byte_order == "little" else 0
    flags |= elfcore.EFLAGS_INCOMPLETE if dump.incomplete else 0
    core = ElfCore(dump.byte_order, flags, elfcore.EM_PPC64, (note, *loads, *aliases))
    output.write_at(0, elfcore.write_head(core) + notes)
    total = sum(load.filesz for load in loads)
    done = 0
    for load, run in zip(loads, runs, strict=True):
        at = load.offset
        for extent in run:
            for offset in range(0, extent.size, _STEP):
                size = min(_STEP, extent.size - offset)
                output.copy(extent.store, extent.offset + offset, size, at)
                at, done = at + size, done + size
                progress(done, total)
    end = loads[-1].offset + loads[-1].filesz if loads else head_end + len(notes)
    output.truncate(end)


_STEP = 64 << 20  # bytes between two calls of progress


def _runs(memory: Memory) -> Iterator[list[Extent]]:
    """Extents that follow each other without a hole, together: each run becomes a PT_LOAD."""
    run: list[Extent] = []
    for extent in memory.extents:
        if run and run[-1].end != extent.start:
            yield run
            run = []
        run.append(extent)
    if run:
        yield run


def _loads(runs: list[list[Extent]], position: int) -> Iterator[Segment]:
    """PT_LOADs, whose place in a page of the file is their place in a page of memory."""
    for run in runs:
        start, size = run[0].start, run[-1].end - run[0].start
        position = -(-position // _ALIGN) * _ALIGN + start % _ALIGN
        vaddr = (PAGE_OFFSET + start) % (1 << 64)
        yield Segment(elfcore.PT_LOAD, position, vaddr, start, size, size)
        position += size


def _mapped(dump: Dump) -> Iterator[tuple[int, Extent, Protection | None]]:
    """(effective address, the memory that it maps, protection) outside of the linear map.

    As many as a core file can have; there is a Problem if there are more.
    """
    pieces = _pieces(dump)
    room = elfcore.MAX_SEGMENTS - len(dump.memory.extents) - 1
    yield from islice(pieces, room)
    if next(pieces, None) is not None:
        what = f"more than {room} pieces of memory are mapped outside of the linear map"
        dump.problems.append(Problem(what, "page tables", "the rest has no segments"))


def _pieces(dump: Dump) -> Iterator[tuple[int, Extent, Protection | None]]:
    for found in dump.spaces["kernel"].mappings():
        if found.physical is None or dump.spaces["linear"].translate(found.first).fault is None:
            continue
        for piece in dump.memory.pieces(found.physical, found.physical + found.size):
            if isinstance(piece, Extent):
                yield found.first + piece.start - found.physical, piece, found.protection


def _aliases(
    mapped: list[tuple[int, Extent, Protection | None]], loads: list[Segment]
) -> Iterator[Segment]:
    """PT_LOADs without a physical address, for bytes that other ones hold."""
    starts = [load.paddr for load in loads]
    for vaddr, piece, allowed in mapped:
        load = loads[bisect_right(starts, piece.start) - 1]
        offset, size = load.offset + piece.start - load.paddr, piece.size
        kind, nowhere = elfcore.PT_LOAD, elfcore.NO_PHYSICAL
        yield Segment(kind, offset, vaddr, nowhere, size, size, _flags(allowed))


def _flags(allowed: Protection | None) -> int:
    if allowed is None:
        return elfcore.READ | elfcore.WRITE
    execute = elfcore.EXECUTE if allowed.execute else 0
    return elfcore.READ | (elfcore.WRITE if allowed.write else 0) | execute


def _notes(dump: Dump, registers: Registers) -> Iterator[Note]:
    """Each CPU's notes together, for gdb; in ascending order, for crash."""
    for cpu in dump.cpus:
        if not cpu.online and registers != "firmware":
            continue  # as the kernel: crash takes the notes for those of the online CPUs
        yield from _cpu_notes(cpu, dump, registers)
    if dump.vmcoreinfo is not None:
        text = dump.vmcoreinfo.without("CRASHTIME").text
        yield Note(ppc_notes.VMCOREINFO, 0, text)
    yield from dump.notes
    for kind, area in sorted(dump.raw.items()):
        yield Note(ppc_notes.PHYPAN, kind, area)
    yield Note(ppc_notes.PHYPAN, ppc_notes.NT_DESCRIPTION, _description(dump))


def _cpu_notes(cpu: Cpu, dump: Dump, registers: Registers) -> Iterator[Note]:
    regs = cpu.regs("firmware" if registers == "firmware" else "os")
    if registers == "drgn":
        regs = _for_drgn(cpu, regs, dump)
    others = list(cpu.notes)
    if cpu.firmware is not None:
        state = CpuState(cpu.number, cpu.firmware)
        others = list(ppc_notes.register_notes(state, dump.byte_order))
    fpvalid = any(note.type == ppc_notes.NT_PRFPREG for note in others)
    status = ppc_notes.Prstatus(cpu.number + 1, regs)
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


def _description(dump: Dump) -> bytes:
    """What has no other place, as JSON."""
    holes = [[h.start, h.size, h.state.value, h.why] for h in dump.memory.holes()]
    problems = [[p.what, p.where, p.meaning] for p in dump.problems]
    return json.dumps(
        {
            "phypan": __version__,
            "source": dump.source,
            "crash_time": dump.crash_time,
            "incomplete": dump.incomplete,
            "holes": holes,
            "problems": problems,
        }
    ).encode()


@hookimpl
def phypan_writers() -> list[Writer]:
    """The ELF writer."""
    return [Writer("elf", "ELF vmcore with all registers and areas in notes", write)]
