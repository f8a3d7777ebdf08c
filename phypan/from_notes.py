"""From the notes of a core file to a Dump: what ELF vmcores and KDUMP files have in common.

What phypan itself wrote has the raw areas in notes named "PHYPAN", and becomes the full dump. Of
every other file the registers are those of NT_PRSTATUS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from phypan import identify
from phypan.dump import Cpu, Dump, cpus_from
from phypan.errors import BadRecord, PhypanError, Problem
from phypan.formats import elfcore, fadump, hptesave, kernel_dump, ppc_notes, regsave
from phypan.formats import vmcoreinfo as vmcoreinfo_format
from phypan.formats._records import ByteOrder, Bytes
from phypan.formats.elfcore import Note
from phypan.formats.fadump import CrashInfo
from phypan.formats.ppc_notes import Prstatus
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.memory import Hole, Memory
from phypan.pagestate import PageState

_T = TypeVar("_T")


@dataclass
class CoreNotes:
    """The notes of a core file, sorted out.

    order        byte order of the file
    statuses     each NT_PRSTATUS, with the register notes behind it
    raw          content of the PHYPAN notes that hold areas as they were preserved, by type
    other        notes that phypan does not read
    description  the PHYPAN note that says what has no other place
    problems     what is wrong with them; whoever builds the Dump may add to it
    """

    order: ByteOrder
    statuses: list[tuple[Prstatus, list[Note]]] = field(default_factory=list)
    vmcoreinfo: Vmcoreinfo | None = None
    raw: dict[int, bytes] = field(default_factory=dict)
    other: list[Note] = field(default_factory=list)
    description: Mapping[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def holes(self) -> Iterator[Hole]:
        """The holes with their reasons, as phypan's writers described them."""
        for entry in self.description.get("holes", ()):
            try:
                start, size, state, why = entry
                yield Hole(int(start), int(size), PageState(state), str(why))
            except (TypeError, ValueError):
                continue


def read_core_notes(blocks: Iterable[Bytes], order: ByteOrder) -> CoreNotes:
    """The notes in `blocks`, the contents of PT_NOTE segments; damaged ones are left out."""
    found = CoreNotes(order)
    for block in blocks:
        for note in elfcore.read_notes(block, order):
            _sort(note, found)
    return found


def _sort(note: Note, found: CoreNotes) -> None:
    if note.name == ppc_notes.CORE and note.type == ppc_notes.NT_PRSTATUS:
        try:
            found.statuses.append((ppc_notes.read_prstatus(note.data, found.order), []))
        except BadRecord as error:
            found.problems.append(Problem(str(error), "notes", "a CPU's registers are lost"))
    elif note.name == ppc_notes.VMCOREINFO:
        found.vmcoreinfo = vmcoreinfo_format.read(note.data)
    elif note.name == ppc_notes.PHYPAN and note.type == ppc_notes.NT_DESCRIPTION:
        found.description = _description(note, found.problems)
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


def dump_from_notes(
    source: str,
    notes: CoreNotes,
    memory: Memory,
    *,
    page_size: int | None = None,
    incomplete: bool = False,
) -> Dump:
    """The Dump of `memory` with the CPUs and everything else that `notes` tell of.

    page_size   as the file's header tells it, None if it does not
    incomplete  whether the file says that pages are missing
    """
    problems = notes.problems
    info = _optional(fadump.read, notes, ppc_notes.NT_CRASH_INFO)
    cpus = _cpus(notes, info)
    text = notes.vmcoreinfo
    if text is None:
        text, _ = identify.find_vmcoreinfo(memory)
        what = "no VMCOREINFO note" + ("" if text is None else ", but one in memory")
        meaning = "symbols and layouts are unknown" if text is None else "that was used"
        problems.append(Problem(what, "notes", meaning))
    if page_size is None:
        page_size, guess = identify.page_size(text)
        problems += [guess] if guess else []
    dump = Dump(
        source=source,
        memory=memory,
        cpus=cpus,
        byte_order=_byte_order(notes, cpus, info),
        page_size=page_size,
        vmcoreinfo=text,
        kernel_dump=_optional(kernel_dump.read, notes, ppc_notes.NT_KERNEL_DUMP),
        hptesave=_optional(hptesave.read, notes, ppc_notes.NT_HPTESAVE),
        crash_info=info,
        crash_time=notes.description.get("crash_time") or (text.crash_time if text else None),
        incomplete=incomplete or any(h.state is PageState.DAMAGED for h in memory.holes()),
        notes=tuple(notes.other),
        raw=notes.raw,
        problems=problems,
    )
    if dump.vmcoreinfo and dump.crash_time and not dump.vmcoreinfo.crash_time:
        line = f"CRASHTIME={dump.crash_time}\n".encode()
        dump.vmcoreinfo = Vmcoreinfo(dump.vmcoreinfo.text + line)
    return dump


def _byte_order(notes: CoreNotes, cpus: Iterable[Cpu], info: CrashInfo | None) -> ByteOrder:
    """The file's byte order, unless the CPUs ran in the other one."""
    ran = identify.byte_order(cpu.regs() for cpu in cpus)
    if ran is None or ran == notes.order or info is not None:
        return notes.order
    what = f"the file is {notes.order}-endian, the CPUs ran {ran}-endian"
    notes.problems.append(Problem(what, "header of the file", "memory is read as the CPUs did"))
    return ran


def _optional(read: Callable[[bytes], _T], notes: CoreNotes, kind: int) -> _T | None:
    """What `read` makes of the raw area in a PHYPAN note; None if there is none."""
    if kind not in notes.raw:
        return None
    try:
        return read(notes.raw[kind])
    except PhypanError as error:
        notes.problems.append(Problem(str(error), f"PHYPAN note {kind}", "it is left out"))
        return None


def _cpus(notes: CoreNotes, info: CrashInfo | None) -> list[Cpu]:
    area = _optional(regsave.read, notes, ppc_notes.NT_REGSAVE)
    if area is not None:
        notes.problems += area.problems
        cpus, missing = cpus_from(area.cpus, info)
        notes.problems += missing
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
