"""An ELF vmcore: phypan's own, the kernel's, kexec's, makedumpfile's, QEMU's, OPAL's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from phypan import (
    EVERYWHERE,
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
    if given.regions:
        names = ", ".join(str(path) for path in given.regions)
        problems.append(Problem("a core file describes itself", names, "it was not looked at"))
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
            what = f"{segment.filesz:#x} bytes of notes at {segment.offset:#x}"
            meaning = f"{size:#x} bytes were read; a file of {store.size:#x} cannot hold more"
            if size == elfcore.MAX_NOTES_SIZE:
                meaning = f"{size:#x} bytes were read, which is more than any machine has"
            problems.append(Problem(what, "PT_NOTE", meaning))
        yield store.view(segment.offset, size)


def _memory(core: ElfCore, store: Store, notes: CoreNotes) -> Memory:
    extents: list[Extent] = []
    holes: list[Hole] = []
    wrong: dict[str, list[int]] = {}  # what -> program headers of which it is true
    for index, segment in enumerate(core.segments):
        if segment.type != elfcore.PT_LOAD or segment.paddr == elfcore.NO_PHYSICAL:
            continue
        if max(segment.paddr, segment.offset) + max(segment.memsz, segment.filesz) > EVERYWHERE:
            wrong.setdefault(_WRAPS, []).append(index)
            continue
        extent, more = _load(segment, store)
        extents += extent
        holes += more
        if more and more[0].state is PageState.DAMAGED:
            wrong.setdefault(_CUT, []).append(index)
        if segment.filesz > segment.memsz:
            wrong.setdefault(_LONGER, []).append(index)
    kept, dropped = without_overlaps(extents)
    notes.add(_problems(wrong, dropped, core))
    return Memory(kept, [*holes, *notes.holes()])


_WRAPS = "wraps around; it is left out"
_CUT = "the file ends before its bytes do; the memory behind that is missing"
_LONGER = "p_filesz is more than p_memsz; all of it was used"


def _problems(
    wrong: Mapping[str, Sequence[int]], dropped: Sequence[Extent], core: ElfCore
) -> Iterator[Problem]:
    """One for each kind: a damaged file may have a million program headers."""
    if not core.loads:
        yield Problem("no PT_LOAD", "program headers", "the file holds no memory")
    for text, indexes in wrong.items():
        what, _, meaning = text.partition("; ")
        where = f"program header {indexes[0]}"
        if len(indexes) > 1:
            where += f" and {len(indexes) - 1} more"
        yield Problem(what, where, meaning)
    if dropped:
        size = sum(extent.size for extent in dropped)
        what = f"{size:#x} bytes are there twice, first at physical address {dropped[0].start:#x}"
        yield Problem(what, "program headers", "the first was used")


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
