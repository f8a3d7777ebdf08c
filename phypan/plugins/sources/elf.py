"""An ELF vmcore: phypan's own, the kernel's /proc/vmcore, kexec's, makedumpfile's, QEMU's, OPAL's.

What phypan itself wrote has the raw areas in notes named "PHYPAN", and opens as the full dump. In
every other one the registers are those of NT_PRSTATUS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from phypan import (
    BadRecord,
    Cpu,
    Dump,
    Extent,
    Hole,
    Input,
    Memory,
    PageState,
    PhypanError,
    Problem,
    Source,
    Store,
    Unsupported,
    cpus_from,
    hookimpl,
    identify,
    without_overlaps,
)
from phypan.formats import elfcore, fadump, hptesave, kernel_dump, ppc_notes, regsave
from phypan.formats import vmcoreinfo as vmcoreinfo_format
from phypan.formats.elfcore import ElfCore, Note, Segment
from phypan.formats.fadump import CrashInfo
from phypan.formats.ppc_notes import Prstatus
from phypan.formats.vmcoreinfo import Vmcoreinfo

_T = TypeVar("_T")
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


@dataclass
class _Notes:
    """The notes, sorted out."""

    statuses: list[tuple[Prstatus, list[Note]]] = field(default_factory=list)
    vmcoreinfo: Vmcoreinfo | None = None
    raw: dict[int, bytes] = field(default_factory=dict)
    other: list[Note] = field(default_factory=list)
    description: Mapping[str, Any] = field(default_factory=dict)


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
    notes = _notes(core, store, problems)
    memory = _memory(core, store, notes, problems)
    return _dump(given, core, notes, memory, problems)


def _dump(
    given: Input, core: ElfCore, notes: _Notes, memory: Memory, problems: list[Problem]
) -> Dump:
    info = _optional(fadump.read, notes, ppc_notes.NT_CRASH_INFO, problems)
    cpus = _cpus(notes, info, problems)
    text = notes.vmcoreinfo
    if text is None:
        text, _ = identify.find_vmcoreinfo(memory)
        what = "no VMCOREINFO note" + ("" if text is None else ", but one in memory")
        meaning = "symbols and layouts are unknown" if text is None else "that was used"
        problems.append(Problem(what, "notes", meaning))
    page_size, guess = identify.page_size(text)
    problems += [guess] if guess else []
    order = core.order
    ran = identify.byte_order(cpu.regs() for cpu in cpus)
    if ran is not None and ran != order and info is None:
        what = f"the file is {order}-endian, the CPUs ran {ran}-endian"
        problems.append(Problem(what, "ELF header", "memory is read as the CPUs did"))
        order = ran
    dump = Dump(
        source=f"ELF core {given.path}",
        memory=memory,
        cpus=cpus,
        byte_order=order,
        page_size=page_size,
        vmcoreinfo=text,
        kernel_dump=_optional(kernel_dump.read, notes, ppc_notes.NT_KERNEL_DUMP, problems),
        hptesave=_optional(hptesave.read, notes, ppc_notes.NT_HPTESAVE, problems),
        crash_info=info,
        crash_time=notes.description.get("crash_time") or (text.crash_time if text else None),
        incomplete=any(hole.state is PageState.DAMAGED for hole in memory.holes()),
        notes=tuple(notes.other),
        raw=notes.raw,
        problems=problems,
    )
    if dump.vmcoreinfo and dump.crash_time and not dump.vmcoreinfo.crash_time:
        line = f"CRASHTIME={dump.crash_time}\n".encode()
        dump.vmcoreinfo = Vmcoreinfo(dump.vmcoreinfo.text + line)
    return dump


def _optional(
    read: Callable[[bytes], _T], notes: _Notes, kind: int, problems: list[Problem]
) -> _T | None:
    """What `read` makes of the raw area in a PHYPAN note; None if there is none."""
    if kind not in notes.raw:
        return None
    try:
        return read(notes.raw[kind])
    except PhypanError as error:
        problems.append(Problem(str(error), f"PHYPAN note {kind}", "it is left out"))
        return None


def _notes(core: ElfCore, store: Store, problems: list[Problem]) -> _Notes:
    """All notes of all PT_NOTE segments; register notes belong to the NT_PRSTATUS before them."""
    found = _Notes()
    for segment in core.segments:
        if segment.type != elfcore.PT_NOTE:
            continue
        size = min(segment.filesz, max(0, store.size - segment.offset), elfcore.MAX_NOTES_SIZE)
        if size < segment.filesz:
            what = f"the notes end at {segment.offset + segment.filesz:#x}, the file before that"
            problems.append(Problem(what, "PT_NOTE", "notes are lost"))
        for note in elfcore.read_notes(store.view(segment.offset, size), core.order):
            _sort(note, core, found, problems)
    return found


def _sort(note: Note, core: ElfCore, found: _Notes, problems: list[Problem]) -> None:
    if note.name == ppc_notes.CORE and note.type == ppc_notes.NT_PRSTATUS:
        try:
            found.statuses.append((ppc_notes.read_prstatus(note.data, core.order), []))
        except BadRecord as error:
            problems.append(Problem(str(error), "notes", "a CPU's registers are lost"))
    elif note.name == ppc_notes.VMCOREINFO:
        found.vmcoreinfo = vmcoreinfo_format.read(note.data)
    elif note.name == ppc_notes.PHYPAN and note.type == ppc_notes.NT_DESCRIPTION:
        found.description = _description(note, problems)
    elif note.name == ppc_notes.PHYPAN:
        found.raw[note.type] = note.data
    elif note.name in (ppc_notes.CORE, ppc_notes.LINUX) and found.statuses:
        found.statuses[-1][1].append(note)
    else:
        found.other.append(note)


def _description(note: Note, problems: list[Problem]) -> Mapping[str, Any]:
    try:
        text = json.loads(note.data)
        if isinstance(text, dict):
            return text
    except (ValueError, RecursionError):
        pass
    problems.append(Problem("not JSON", "PHYPAN description", "reasons of holes are lost"))
    return {}


def _cpus(notes: _Notes, info: CrashInfo | None, problems: list[Problem]) -> list[Cpu]:
    area = _optional(regsave.read, notes, ppc_notes.NT_REGSAVE, problems)
    if area is not None:
        problems += area.problems
        cpus, missing = cpus_from(area.cpus, info)
        problems += missing
        return cpus
    pids = [status.pid for status, _ in notes.statuses]
    # phypan and QEMU number the notes from 1; the kernel leaves them all 0.
    numbered = len(set(pids)) == len(pids) and all(0 < pid < 1 << 16 for pid in pids)
    return [
        Cpu(
            number=status.pid - 1 if numbered else index,
            kernel=status.regs,
            crashing=info is not None and info.crashing_cpu == index,
            notes=tuple(others),
        )
        for index, (status, others) in enumerate(notes.statuses)
    ]


def _memory(core: ElfCore, store: Store, notes: _Notes, problems: list[Problem]) -> Memory:
    extents, holes = [], list(_told_holes(notes.description))
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


def _told_holes(description: Mapping[str, Any]) -> Iterator[Hole]:
    """The holes with their reasons, as phypan's writer described them."""
    for entry in description.get("holes", ()):
        try:
            start, size, state, why = entry
            yield Hole(int(start), int(size), PageState(state), str(why))
        except (TypeError, ValueError):
            continue


@hookimpl
def phypan_sources() -> list[Source]:
    """The core file."""
    return [Source("elf", "ELF vmcore of any origin, either byte order", probe, open_)]
