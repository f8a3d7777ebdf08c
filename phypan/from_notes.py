"""From the notes of a core file to a Dump: what ELF vmcores and KDUMP files have in common.

What phypan itself wrote has the raw areas in notes named "PHYPAN", and becomes the full dump. Of
every other file the registers are those of NT_PRSTATUS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from phypan import identify
from phypan.dump import Cpu, Dump, cpus_from
from phypan.errors import BadRecord, PhypanError, Problem
from phypan.extents import EVERYWHERE, Hole
from phypan.formats import elfcore, fadump, hptesave, kernel_dump, ppc_notes, regsave
from phypan.formats import vmcoreinfo as vmcoreinfo_format
from phypan.formats._records import ByteOrder, Bytes
from phypan.formats.elfcore import Note
from phypan.formats.fadump import CrashInfo
from phypan.formats.ppc_notes import Prstatus
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.memory import Memory
from phypan.pages.state import PageState

_T = TypeVar("_T")
_MAX_DESCRIPTION = 16 << 20  # bytes of JSON
_MAX_PROBLEMS = 1000


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
        for entry in _rows(self.description, "holes", (int, int, str, str)):
            start, size, state, why = entry
            if state in _STATES and start >= 0 and size > 0 and start + size <= EVERYWHERE:
                yield Hole(start, size, PageState(state), why)

    def known_problems(self) -> Iterator[Problem]:
        """What was wrong with what phypan made the file of."""
        rows = _rows(self.description, "problems", (str, str, str))
        for what, where, meaning in islice(rows, _MAX_PROBLEMS):
            yield Problem(what, where, meaning)

    def add(self, problems: Iterable[Problem]) -> None:
        """Add those that are not there yet: a file of phypan's tells those of its own source."""
        self.problems += [problem for problem in problems if problem not in self.problems]


_STATES = frozenset(state.value for state in PageState)


def _rows(description: Mapping[str, Any], key: str, kinds: tuple[type, ...]) -> Iterator[Any]:
    """The rows of a table in the description; what is no row of such `kinds` is left out."""
    table = description.get(key)
    for row in table if isinstance(table, list) else ():
        if isinstance(row, list) and [type(value) for value in row] == list(kinds):
            yield row


def read_core_notes(blocks: Iterable[Bytes], order: ByteOrder) -> CoreNotes:
    """The notes in `blocks`, the contents of PT_NOTE segments; damaged ones are left out."""
    found = CoreNotes(order)
    for block in blocks:
        for note in elfcore.read_notes(block, order, found.problems):
            _sort(note, found)
    found.add(found.known_problems())
    if len(found.statuses) > regsave.MAX_CPUS:
        what = f"{len(found.statuses)} CPUs"
        found.add([Problem(what, "notes", f"the first {regsave.MAX_CPUS} were used")])
        del found.statuses[regsave.MAX_CPUS :]
    return found


def _sort(note: Note, found: CoreNotes) -> None:
    if note.name == ppc_notes.CORE and note.type == ppc_notes.NT_PRSTATUS:
        try:
            found.statuses.append((ppc_notes.read_prstatus(note.data, found.order), []))
        except BadRecord as error:
            found.add([Problem(str(error), "notes", "a CPU's registers are lost")])
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
        text = json.loads(note.data) if len(note.data) <= _MAX_DESCRIPTION else None
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
    info = _optional(fadump.read, notes, ppc_notes.NT_CRASH_INFO)
    cpus = _cpus(notes, info)
    text = _vmcoreinfo(notes, memory)
    if page_size is None:
        page_size, guess = identify.page_size(text)
        notes.add([guess] if guess else [])
    saved = _optional(kernel_dump.read, notes, ppc_notes.NT_KERNEL_DUMP)
    if saved is not None:
        notes.add([*saved.problems, *kernel_dump.section_problems(saved)])
    hptes = _optional(hptesave.read, notes, ppc_notes.NT_HPTESAVE)
    if hptes is not None:
        notes.add(hptes.problems)
    incomplete = incomplete or notes.description.get("incomplete") is True
    return Dump(
        source=source,
        memory=memory,
        cpus=cpus,
        byte_order=_byte_order(notes, cpus, info),
        page_size=page_size,
        vmcoreinfo=text,
        kernel_dump=saved,
        hptesave=hptes,
        crash_info=info,
        crash_time=text.crash_time if text else _crash_time(notes),
        incomplete=incomplete or any(h.state is PageState.DAMAGED for h in memory.holes()),
        notes=tuple(notes.other),
        raw=notes.raw,
        problems=notes.problems,
    )


def _crash_time(notes: CoreNotes) -> int | None:
    time = notes.description.get("crash_time")
    return time if type(time) is int and 0 < time < 1 << 63 else None


def _vmcoreinfo(notes: CoreNotes, memory: Memory) -> Vmcoreinfo | None:
    """VMCOREINFO with the time of the crash, which phypan keeps apart from it."""
    text = notes.vmcoreinfo
    if text is None:
        text, _ = identify.find_vmcoreinfo(memory)
        what = "no VMCOREINFO note" + ("" if text is None else ", but one in memory")
        meaning = "symbols and layouts are unknown" if text is None else "that was used"
        if text is not None or not notes.description:  # else the file says so itself
            notes.add([Problem(what, "notes", meaning)])
    time = _crash_time(notes)
    if text is None or time is None or text.crash_time is not None:
        return text
    lines = text.text if text.text.endswith(b"\n") else text.text + b"\n"
    return Vmcoreinfo(lines + f"CRASHTIME={time}\n".encode())


def _byte_order(notes: CoreNotes, cpus: Iterable[Cpu], info: CrashInfo | None) -> ByteOrder:
    """The file's byte order, unless the CPUs ran in the other one; phypan's own are right."""
    ran = identify.byte_order(cpu.regs() for cpu in cpus)
    if ran is None or ran == notes.order or info is not None or notes.description:
        return notes.order
    what = f"the file is {notes.order}-endian, the CPUs ran {ran}-endian"
    notes.add([Problem(what, "header of the file", "memory is read as the CPUs did")])
    return ran


def _optional(read: Callable[[bytes], _T], notes: CoreNotes, kind: int) -> _T | None:
    """What `read` makes of the raw area in a PHYPAN note; None if there is none."""
    if kind not in notes.raw:
        return None
    try:
        return read(notes.raw[kind])
    except PhypanError as error:
        what = str(error)
        if what not in {problem.what for problem in notes.problems}:  # known since it was made
            notes.add([Problem(what, f"PHYPAN note {kind:#x}", "it is left out")])
        return None


def _cpus(notes: CoreNotes, info: CrashInfo | None) -> list[Cpu]:
    area = _optional(regsave.read, notes, ppc_notes.NT_REGSAVE)
    if area is not None:
        cpus, missing = cpus_from(area.cpus, info)
        notes.add([*area.problems, *missing])
        return cpus
    pids = [status.pid for status, _ in notes.statuses]
    # phypan and QEMU number the notes from 1; the kernel leaves them all 0.
    numbered = len(set(pids)) == len(pids) and all(0 < pid < 1 << 16 for pid in pids)
    numbers = [pid - 1 for pid in pids] if numbered else range(len(pids))
    cpus = [
        Cpu(
            number=number,
            kernel=status.regs,
            crashing=info is not None and info.crashing_cpu == number,
            notes=tuple(others),
        )
        for number, (status, others) in zip(numbers, notes.statuses, strict=True)
    ]
    return sorted(cpus, key=lambda cpu: cpu.number)
