"""The ELF vmcore: one file that crash, drgn, gdb, libkdumpfile and makedumpfile open.

What each of them needs beside the notes (phypan.to_notes), and why the file is not just what
/proc/vmcore is:

- crash: one PT_NOTE and it first, p_align 0 (else it takes the file for a netdump), no PT_LOAD at
  file offset 0, and bit 0 of e_flags for an incomplete dump, although the ELF ABI has another
  meaning for it. So e_flags is 0 or 2, not the 1 that the kernel writes for big-endian.
- makedumpfile: the program headers at byte 64.
- drgn and gdb on hashed kernels: neither reads their page tables, so that vmalloc, modules and
  vmemmap are only there if segments say where their bytes are (--virtual). p_paddr is ~0 in these.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from phypan import (
    Dump,
    Extent,
    Memory,
    NoteRegisters,
    Output,
    Problem,
    Progress,
    Writer,
    core_notes,
    hookimpl,
)
from phypan.formats import elfcore
from phypan.formats.elfcore import ElfCore, Segment

if TYPE_CHECKING:
    from phypan import Protection

PAGE_OFFSET = 0xC000000000000000  # effective address of physical address 0 in the linear map
_ALIGN = 65536  # file offsets of data: the largest page size


def write(
    dump: Dump,
    output: Output,
    progress: Progress,
    *,
    registers: NoteRegisters = "os",
    virtual: bool = False,
) -> None:
    """Write the whole dump.

    registers  what NT_PRSTATUS gets: "os" as the kernel would have written it; "firmware" what
               the firmware saved, of the crashing CPU too; "drgn" as "os", but arranged for drgn
               on kernels before 6.5, where it takes the program counter from LR
    virtual    add segments with the effective addresses of vmalloc, modules and vmemmap, so that
               tools which know no page tables read them; they share the bytes of the others
    """
    notes = elfcore.write_notes(core_notes(dump, registers), dump.byte_order)
    runs = list(_runs(dump.memory))
    mapped = list(_mapped(dump, elfcore.MAX_SEGMENTS - len(runs) - 1)) if virtual else []
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


def _mapped(dump: Dump, room: int) -> Iterator[tuple[int, Extent, Protection | None]]:
    """(effective address, the memory that it maps, protection) outside of the linear map.

    As many as there is `room` for in a core file; there is a Problem if there are more.
    """
    pieces = _pieces(dump)
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


@hookimpl
def phypan_writers() -> list[Writer]:
    """The ELF writer."""
    return [Writer("elf", "ELF vmcore with all registers and areas in notes", write)]
