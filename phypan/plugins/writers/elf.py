"""The ELF vmcore: one file that crash, drgn, gdb, libkdumpfile and makedumpfile open.

What each of them needs beside the notes (phypan.to_notes), and why the file is not just what
/proc/vmcore is:

- crash: one PT_NOTE and it first, p_align 0 (else it takes the file for a netdump), no PT_LOAD at
  file offset 0, and bit 0 of e_flags for an incomplete dump, although the ELF ABI has another
  meaning for it. So e_flags is 0 or 2, not the 1 that the kernel writes for big-endian.
- makedumpfile: the program headers at byte 64.
"""

from __future__ import annotations

from collections.abc import Iterator

from phypan import (
    Dump,
    Extent,
    Memory,
    NoteRegisters,
    Output,
    Progress,
    Writer,
    core_notes,
    hookimpl,
)
from phypan.formats import elfcore
from phypan.formats.elfcore import ElfCore, Segment

PAGE_OFFSET = 0xC000000000000000  # effective address of physical address 0 in the linear map
_ALIGN = 65536  # file offsets of data: the largest page size


def write(
    dump: Dump, output: Output, progress: Progress, *, registers: NoteRegisters = "os"
) -> None:
    """Write the whole dump.

    registers  what NT_PRSTATUS gets: "os" as the kernel would have written it; "firmware" what
               the firmware saved, of the crashing CPU too; "drgn" as "os", but arranged for drgn
               on kernels before 6.5, where it takes the program counter from LR
    """
    notes = elfcore.write_notes(core_notes(dump, registers), dump.byte_order)
    runs = list(_runs(dump.memory))
    head_end = elfcore.head_size(1 + len(runs))
    note = Segment(elfcore.PT_NOTE, head_end, 0, 0, len(notes), len(notes), flags=0)
    loads = list(_loads(runs, head_end + len(notes)))
    flags = elfcore.EFLAGS_ELFV2 if dump.byte_order == "little" else 0
    flags |= elfcore.EFLAGS_INCOMPLETE if dump.incomplete else 0
    core = ElfCore(dump.byte_order, flags, elfcore.EM_PPC64, (note, *loads))
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


@hookimpl
def phypan_writers() -> list[Writer]:
    """The ELF writer."""
    return [Writer("elf", "ELF vmcore with all registers and areas in notes", write)]
