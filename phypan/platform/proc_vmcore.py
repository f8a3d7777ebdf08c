"""/proc/vmcore of a firmware-assisted dump, as the second kernel builds it.

arch/powerpc/kernel/fadump.c, arch/powerpc/platforms/pseries/rtas-fadump.c, fs/proc/vmcore.c. It
is what phypan's own vmcore is compared with, so it does as the kernel does: e_flags 1 for ELFv1,
pr_pid 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from phypan.errors import BadRecord
from phypan.formats import elfcore, fadump, ppc_notes, pt_regs, regsave
from phypan.formats._records import align
from phypan.formats.elfcore import ElfCore, Note, Segment
from phypan.formats.kernel_dump import KernelDump, SectionType
from phypan.platform.guest import Guest
from phypan.platform.hypervisor import Hypervisor
from phypan.platform.lpar import Lpar
from phypan.platform.reservation import PAGE_OFFSET


@dataclass(frozen=True)
class ProcVmcore:
    """The file: a head, and behind it parts of memory: (file offset, size, physical address)."""

    lpar: Lpar
    head: bytes
    parts: tuple[tuple[int, int, int], ...]

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return max((at + size for at, size, _ in self.parts), default=len(self.head))

    def read(self, offset: int, size: int) -> bytes:
        """What is there now: memory that was given back has changed."""
        end = min(offset + size, self.size)
        data = bytearray(max(0, end - offset))
        places = [(0, len(self.head), None), *self.parts]
        for at, length, address in places:
            first, last = max(offset, at), min(end, at + length)
            if first < last:
                skip = first - at
                piece = (
                    self.head[skip : skip + last - first]
                    if address is None
                    else self.lpar.memory.read(address + skip, last - first)
                )
                data[first - offset : last - offset] = piece
        return bytes(data)


def build(lpar: Lpar, hypervisor: Hypervisor, guest: Guest) -> ProcVmcore | None:
    """The file, or None where the kernel refuses the dump or none waits."""
    active = hypervisor.active
    if active is None or not _valid(active):
        return None
    layout, page = guest.layout, guest.page_size
    data = lpar.memory.read(layout.header, 4096)
    try:
        info = fadump.read(data, layout.header)
    except BadRecord:
        return None
    notes = elfcore.write_notes(_notes(lpar, active, info), info.order)
    copies = [s for s in active.sections if s.type == SectionType.REAL_MODE_REGION]
    loads = [(s.source, s.length, s.destination) for s in copies]
    loads.append((layout.end, lpar.memory.size - layout.end, layout.end))
    note_at = align(elfcore.head_size(1 + len(loads)), page)
    aligned = 4 if info.version else 0  # p_align: kernels of 6.12 say so, older ones do not
    size = len(notes)
    segments = [Segment(elfcore.PT_NOTE, note_at, 0, 0, size, size, flags=0, align=aligned)]
    parts, position = [], align(note_at + size, page)
    for start, length, address in loads:
        position += start % page
        virtual = PAGE_OFFSET + start
        segments.append(Segment(elfcore.PT_LOAD, position, virtual, start, length, length))
        parts.append((position, length, address))
        position = align(position + length, page)
    flags = 2 if info.order == "little" else 1  # ELFv2 and ELFv1
    core = ElfCore(info.order, flags, elfcore.EM_PPC64, tuple(segments))
    head = elfcore.write_head(core).ljust(note_at, b"\0") + notes
    return ProcVmcore(lpar, head, tuple(parts))


def _valid(dump: KernelDump) -> bool:
    """Whether the kernel takes it: no error flag, nothing short (rtas_fadump_process())."""
    used = (SectionType.CPU_STATE, SectionType.HPTE, SectionType.REAL_MODE_REGION)
    return all(
        not section.error_flags and section.dumped == section.length
        for section in dump.sections
        if section.type in used
    )


def _notes(lpar: Lpar, dump: KernelDump, info: fadump.CrashInfo) -> list[Note]:
    (section,) = dump.of_type(SectionType.CPU_STATE)[:1]
    try:
        area = regsave.read(lpar.memory.read(section.destination, section.length))
        states = area.cpus
    except BadRecord:
        states = ()
    notes = []
    for state in states:
        if info.online is not None and state.number not in info.online:
            continue
        own = state.number == info.crashing_cpu
        regs = info.regs if own else pt_regs.from_firmware(state.registers)
        notes.append(ppc_notes.write_prstatus(ppc_notes.Prstatus(0, regs), info.order))
    if info.vmcoreinfo is not None:
        address, size = info.vmcoreinfo
        notes += elfcore.read_notes(lpar.memory.read(address, size), info.order)
    elif info.elfcorehdr is not None:
        head = lpar.memory.read(info.elfcorehdr, 4096)
        core = elfcore.read(lambda at, count: head[at : at + count], len(head))
        first = core.segments[0]
        notes += elfcore.read_notes(lpar.memory.read(first.offset, first.filesz), info.order)
    return notes
