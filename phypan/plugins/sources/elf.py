"""An ELF vmcore: phypan's own, the kernel's, kexec's, makedumpfile's, QEMU's, OPAL's."""

from __future__ import annotations

from collections.abc import Iterator

from phypan import (
    CoreNotes,
    Dump,
    Extent,
    Hole,
    Input,
    Memory,
    PageState,
    Problem,
    Source,
    Store,
    Unsupported,
    dump_from_notes,
    hookimpl,
    read_core_notes,
    without_overlaps,
)
from phypan.formats import elfcore
from phypan.formats.elfcore import ElfCore, Segment

_SHORTER = "p_filesz is less than p_memsz: the tool that wrote the file left it out"


def probe(given: Input) -> int:
    """Sure of a 64-bit ELF core file for PowerPC."""
    order = elfcore.byte_order(given.head)
    if order is None or len(given.head) < elfcore.EHDR_SIZE:
        return 0
    kind, machine = (int.from_bytes(given.head[at : at + 2], order) for at in (16, 18))
    if kind != elfcore.ET_CORE:
        return 0
    return 90 if machine == elfcore.EM_PPC64 else 10


def open_(given: Input) -> Dump:
    """The Dump in a core file; what is cut off or damaged in it becomes holes and problems."""
    store = given.store
    if store is None:
        raise Unsupported("a directory is no core file", where=str(given.path))
    core = elfcore.read(store.view, store.size)
    if core.machine != elfcore.EM_PPC64:
        raise Unsupported(
            f"machine {core.machine}, not PowerPC64 ({elfcore.EM_PPC64})",
            where=str(given.path),
            hint="dumps of other architectures are for crash and drgn",
        )
    problems: list[Problem] = []
    notes = read_core_notes(_notes(core, store, problems), core.order)
    notes.problems[:0] = problems
    memory = _memory(core, store, notes)
    return dump_from_notes(f"ELF core {given.path}", notes, memory, incomplete=_incomplete(core))


def _incomplete(core: ElfCore) -> bool:
    """Whether makedumpfile ran out of space: of big-endian kernels the bit is their ABI's."""
    return core.order == "little" and bool(core.flags & elfcore.EFLAGS_INCOMPLETE)


def _notes(core: ElfCore, store: Store, problems: list[Problem]) -> Iterator[memoryview]:
    """What each PT_NOTE segment holds."""
    for segment in core.segments:
        if segment.type != elfcore.PT_NOTE:
            continue
        size = min(segment.filesz, max(0, store.size - segment.offset), elfcore.MAX_NOTES_SIZE)
        if size < segment.filesz:
            what = f"the notes end at {segment.offset + segment.filesz:#x}, the file before that"
            problems.append(Problem(what, "PT_NOTE", "notes are lost"))
        yield store.view(segment.offset, size)


def _memory(core: ElfCore, store: Store, notes: CoreNotes) -> Memory:
    extents, holes, problems = [], list(notes.holes()), notes.problems
    for index, segment in enumerate(core.segments):
        if segment.type != elfcore.PT_LOAD or segment.paddr == elfcore.NO_PHYSICAL:
            continue
        where = f"program header {index}"
        if max(segment.paddr, segment.offset) + max(segment.memsz, segment.filesz) >= 1 << 64:
            problems.append(Problem("wraps around", where, "it is left out"))
            continue
        extent, more = _load(segment, store)
        extents += extent
        holes = [*more, *holes]
        if more and more[0].state is PageState.DAMAGED:
            end = segment.offset + segment.filesz
            what = f"its bytes end at {end:#x}, the file at {store.size:#x}"
            problems.append(Problem(what, where, "the memory behind that is missing"))
    kept, dropped = without_overlaps(extents)
    problems += [
        Problem(
            f"{extent.size:#x} bytes at physical address {extent.start:#x} are there twice",
            "program headers",
            "the first was used",
        )
        for extent in dropped
    ]
    return Memory(kept, holes)


def _load(segment: Segment, store: Store) -> tuple[list[Extent], list[Hole]]:
    size = max(0, min(segment.filesz, store.size - segment.offset))
    extents = [Extent(segment.paddr, size, store, segment.offset)] if size else []
    holes = []
    if size < segment.filesz:
        missing = segment.filesz - size
        holes.append(
            Hole(segment.paddr + size, missing, PageState.DAMAGED, "the file ends before it")
        )
    if segment.memsz > segment.filesz:
        start, rest = segment.paddr + segment.filesz, segment.memsz - segment.filesz
        holes.append(Hole(start, rest, PageState.EXCLUDED, _SHORTER))
    return extents, holes


@hookimpl
def phypan_sources() -> list[Source]:
    """The core file."""
    return [Source("elf", "ELF vmcore of any origin, either byte order", probe, open_)]
