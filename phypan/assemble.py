"""From a RAM image of the second boot to the Dump of the first.

Low memory comes from the copy that the firmware made, everything else from its place. What the
firmware and the second kernel have written over is a hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from phypan import identify
from phypan.dump import Cpu, Dump, cpus_from
from phypan.errors import BadRecord, PhypanError, Problem
from phypan.formats import elfcore, fadump, hptesave, kernel_dump, ppc_notes, regsave
from phypan.formats import vmcoreinfo as vmcoreinfo_format
from phypan.formats._records import ByteOrder
from phypan.formats.kernel_dump import SectionType
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.memory import Extent, Hole, Memory, PageState
from phypan.regions import Regions
from phypan.stores import Store

SECOND_KERNEL = 256 << 20  # bytes that the second kernel is given when no copy says how many
MAX_AREA = 1 << 30  # bytes of a register or HPTE save area
LARGEST_PAGE = 65536
_HEADER_SIZE = 16384  # bytes that hold any crash info header


@dataclass
class _Parts:
    """What becomes the Dump, while it is gathered."""

    ram: Store
    regions: Regions
    problems: list[Problem] = field(default_factory=list)
    raw: dict[int, bytes] = field(default_factory=dict)

    def problem(self, what: str, where: str, meaning: str) -> None:
        self.problems.append(Problem(what, where, meaning))

    def area(self, section: kernel_dump.Section) -> bytes | None:
        """The bytes of a platform section; None when there are none."""
        size = min(section.length, section.dumped)
        where = f"{section.name} section"
        if not size:
            return None
        if size > MAX_AREA:
            self.problem(f"{size:#x} bytes", where, f"only {MAX_AREA:#x} were looked at")
            size = MAX_AREA
        end = min(section.destination + size, self.ram.size)
        if end <= section.destination:
            self.problem(
                f"physical address {section.destination:#x} is outside of memory",
                where,
                "what it held is lost",
            )
            return None
        if end < section.destination + size:
            self.problem(f"ends behind memory, at {end:#x}", where, "what is there was read")
        return bytes(self.ram.view(section.destination, end - section.destination))


def from_ram(ram: Store, regions: Regions, source: str) -> Dump:
    """The Dump of the crashed partition whose memory, seen in the second boot, is `ram`.

    `ram` begins at physical address 0. Nothing that is missing or wrong stops it, short of a
    description that names no memory at all.
    """
    parts = _Parts(ram, regions, list(regions.problems))
    states = _register_save_area(parts)
    hptes = _hpte_save_area(parts)
    info, info_at = _crash_info(parts)
    memory = _memory(parts, info, info_at)
    text, order = _vmcoreinfo(parts, memory, info)
    cpus, problems = cpus_from(states, info)
    parts.problems += problems
    page_size, guess = identify.page_size(text)
    parts.problems += [guess] if guess else []
    result = Dump(
        source=source,
        memory=memory,
        cpus=cpus,
        byte_order=_byte_order(parts, order, cpus),
        page_size=page_size,
        vmcoreinfo=text,
        kernel_dump=regions.kernel_dump,
        hptesave=hptes,
        crash_info=info,
        crash_time=text.crash_time if text else None,
        incomplete=any(hole.state is PageState.DAMAGED for hole in memory.holes()),
        raw=parts.raw,
        problems=parts.problems,
        stores=(ram,),
    )
    if regions.property is not None:
        parts.raw[ppc_notes.NT_KERNEL_DUMP] = regions.property
    if regions.device_tree is not None:
        parts.raw[ppc_notes.NT_DEVICE_TREE] = regions.device_tree
    return result


def _byte_order(parts: _Parts, told: ByteOrder | None, cpus: Sequence[Cpu]) -> ByteOrder:
    """What the kernel's own structures tell, else what the CPUs' MSRs do."""
    order = told or identify.byte_order(cpu.regs() for cpu in cpus)
    if order is None:
        parts.problem("the byte order is unknown", "memory", "big-endian is assumed")
    return order or "big"


def _register_save_area(parts: _Parts) -> Sequence[regsave.CpuState]:
    for section in parts.regions.kernel_dump.of_type(SectionType.CPU_STATE)[:1]:
        area = parts.area(section)
        if area is None:
            break
        parts.raw[ppc_notes.NT_REGSAVE] = area
        try:
            read = regsave.read(area)
        except BadRecord as error:
            meaning = "the firmware's registers are lost; was the save area written over?"
            parts.problem(str(error), "CPU_STATE section", meaning)
            return ()
        parts.problems += read.problems
        return read.cpus
    parts.problem("no register save area", "ibm,kernel-dump", "the firmware's registers are lost")
    return ()


def _hpte_save_area(parts: _Parts) -> hptesave.HpteSaveArea | None:
    for section in parts.regions.kernel_dump.of_type(SectionType.HPTE)[:1]:
        area = parts.area(section)
        if area is None:
            return None  # a length of 0 is how QEMU says that it saves none
        parts.raw[ppc_notes.NT_HPTESAVE] = area
        try:
            read = hptesave.read(area)
        except BadRecord as error:
            parts.problem(str(error), "HPTE section", "the entries of the VRMA are lost")
            return None
        parts.problems += read.problems
        return read
    return None


def _copies(parts: _Parts) -> list[kernel_dump.Section]:
    """Sections that are copies of partition memory to another place, in stored order."""
    platform = (SectionType.CPU_STATE, SectionType.HPTE)
    return [
        section
        for section in parts.regions.kernel_dump.sections
        if section.type not in platform and section.length and section.source != section.destination
    ]


def _crash_info(parts: _Parts) -> tuple[fadump.CrashInfo | None, int]:
    """(Linux's header, its physical address): it follows the copies of boot memory."""
    copies = parts.regions.kernel_dump.of_type(SectionType.REAL_MODE_REGION)
    first = next((section for section in copies if section.source == 0), None)
    if first is None:
        return None, 0
    address = first.destination + sum(section.length for section in copies)
    size = min(_HEADER_SIZE, parts.ram.size - address)
    if size <= 0:
        return None, 0
    data = bytes(parts.ram.view(address, size))
    if fadump.byte_order(data) is None:
        return None, 0
    try:
        info = fadump.read(data, address)
    except BadRecord as error:
        parts.problem(
            str(error), f"physical address {address:#x}", "the firmware's registers are used"
        )
        return None, 0
    parts.raw[ppc_notes.NT_CRASH_INFO] = data[: info.size]
    return info, address


def _memory(parts: _Parts, info: fadump.CrashInfo | None, info_at: int) -> Memory:
    ram, copies = parts.ram, _copies(parts)
    extents = [extent for section in copies for extent in _copy(parts, section)]
    taken = [*_save_area(parts, copies, info, info_at), *_missing(parts, copies)]
    stretches = parts.regions.memory or [(0, ram.size)]
    end = max(start + size for start, size in stretches)
    if end > ram.size:
        parts.problem(
            f"{ram.size:#x} bytes, memory ends at {end:#x}",
            ram.name,
            "the memory behind it is missing: was the file cut short when it was copied?",
        )
        taken.append(
            Hole(ram.size, end - ram.size, PageState.DAMAGED, "the RAM image ends before it")
        )
    # What a copy was made of and what was written over is not taken from its place.
    spoken_for = Memory(
        [Extent(start, size, ram, 0) for start, size in _merged(_covered(copies, taken))]
    )
    for start, size in _merged(stretches):
        stop = min(start + size, ram.size)
        for piece in spoken_for.pieces(start, stop):
            if isinstance(piece, Hole):
                extents.append(Extent(piece.start, piece.size, ram, piece.start))
    return Memory(extents, taken)


def _copy(parts: _Parts, section: kernel_dump.Section) -> Iterator[Extent]:
    size = min(section.length, section.dumped)
    readable = max(0, min(size, parts.ram.size - section.destination))
    if readable < size:
        parts.problem(
            f"its copy is at {section.destination:#x}, memory ends at {parts.ram.size:#x}",
            f"{section.name} section",
            "what cannot be read there is a hole",
        )
    yield Extent(section.source, readable, parts.ram, section.destination)


def _missing(parts: _Parts, copies: Sequence[kernel_dump.Section]) -> Iterator[Hole]:
    """What was to be copied and was not: the second kernel has used that memory since."""
    for section in copies:
        size = min(section.length, section.dumped, max(0, parts.ram.size - section.destination))
        why = f"the firmware did not preserve it ({size:#x} of {section.length:#x} bytes)"
        yield Hole(section.source + size, section.length - size, PageState.DAMAGED, why)
    if not any(section.source == 0 for section in copies):
        parts.problem(
            "no copy of low memory",
            "ibm,kernel-dump",
            f"the first {SECOND_KERNEL >> 20} MiB are lost to the second kernel",
        )
        yield Hole(0, SECOND_KERNEL, PageState.DAMAGED, "the second kernel runs in it")


def _save_area(
    parts: _Parts,
    copies: Sequence[kernel_dump.Section],
    info: fadump.CrashInfo | None,
    info_at: int,
) -> Iterator[Hole]:
    """The memory that the preserved areas lie in; gaps of less than a page between them too."""
    areas = [
        (section.destination, section.length)
        for section in parts.regions.kernel_dump.sections
        if section in copies or section.type in (SectionType.CPU_STATE, SectionType.HPTE)
    ]
    if info is not None:
        areas.append((info_at, _header_end(parts, info, info_at) - info_at))
    why = "the firmware put what it preserved there"
    for start, size in _merged(areas, LARGEST_PAGE):
        yield Hole(start, size, PageState.ABSENT, why)


def _header_end(parts: _Parts, info: fadump.CrashInfo, address: int) -> int:
    """Where the memory ends that Linux keeps for its header.

    Up to 6.9 the core file's header lies behind it, and its program headers say where memory goes
    on; that is on a page, whose size is not known yet.
    """
    if info.elfcorehdr is None:
        return address + info.size
    head = _elf_header(parts, info.elfcorehdr)
    if head is None:
        return address + info.size
    end = info.elfcorehdr + elfcore.head_size(len(head.segments))
    return min((load.paddr for load in head.loads if load.paddr >= end), default=end)


def _elf_header(parts: _Parts, address: int) -> elfcore.ElfCore | None:
    """The core file's header at physical `address`, None if it is none."""
    try:
        return elfcore.read(lambda at, size: parts.ram.view(address + at, size), 1 << 20)
    except PhypanError:
        return None


def _covered(
    copies: Iterable[kernel_dump.Section], taken: Iterable[Hole]
) -> Iterator[tuple[int, int]]:
    for section in copies:
        yield section.source, section.length
    for hole in taken:
        yield hole.start, hole.size


def _merged(areas: Iterable[tuple[int, int]], gap: int = 0) -> Iterator[tuple[int, int]]:
    """(start, size) without overlaps; areas less than `gap` bytes apart become one."""
    start = end = None
    for first, size in sorted(area for area in areas if area[1]):
        if end is None or first > end + max(0, gap - 1):
            if start is not None and end is not None:
                yield start, end - start
            start, end = first, first + size
        else:
            end = max(end, first + size)
    if start is not None and end is not None:
        yield start, end - start


def _vmcoreinfo(
    parts: _Parts, memory: Memory, info: fadump.CrashInfo | None
) -> tuple[Vmcoreinfo | None, ByteOrder | None]:
    """VMCOREINFO as the crash info header leads to it, else the latest that memory holds."""
    for address, size in _note_places(parts, info):
        if info and 0 < size <= 1 << 20 and address + size <= parts.ram.size:
            for note in elfcore.read_notes(parts.ram.view(address, size), info.order):
                if note.name == ppc_notes.VMCOREINFO:
                    return vmcoreinfo_format.read(note.data), info.order
    text, order = identify.find_vmcoreinfo(memory)
    if text is None:
        parts.problem(
            "no VMCOREINFO in memory",
            "low memory",
            "page size, symbols and layouts are unknown: few tools will open the dump",
        )
    return text, info.order if info else order


def _note_places(parts: _Parts, info: fadump.CrashInfo | None) -> Iterator[tuple[int, int]]:
    """(physical address in the second boot, bytes) of VMCOREINFO's note."""
    if info is None:
        return
    if info.vmcoreinfo is not None:
        yield info.vmcoreinfo
    head = None if info.elfcorehdr is None else _elf_header(parts, info.elfcorehdr)
    if head is not None:
        for segment in head.segments:
            if segment.type == elfcore.PT_NOTE:
                yield segment.offset, segment.filesz
