"""From a RAM image of the second boot to the Dump of the first: memory, CPUs, kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from phypan import identify, preserved
from phypan.dump import Cpu, Dump, cpus_from
from phypan.errors import BadRecord, PhypanError, Problem
from phypan.formats import elfcore, fadump, hptesave, kernel_dump, ppc_notes, regsave
from phypan.formats import vmcoreinfo as vmcoreinfo_format
from phypan.formats._records import ByteOrder
from phypan.formats.kernel_dump import SectionType
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.memory import Memory
from phypan.pages.state import PageState
from phypan.preserved import LARGEST_PAGE
from phypan.regions import Regions
from phypan.stores import Store

MAX_AREA = 64 << 20  # bytes of a register or HPTE save area: 8192 CPUs with all registers
_HEADER_SIZE = 16384  # bytes that hold any crash info header
_ELF_HEADER_SIZE = 1 << 20  # and any header of a core file behind it


@dataclass
class _Parts:
    """What becomes the Dump, while it is gathered."""

    ram: Store
    regions: Regions
    problems: list[Problem] = field(default_factory=list)
    raw: dict[int, bytes] = field(default_factory=dict)

    def problem(self, what: str, where: str, meaning: str) -> None:
        self.problems.append(Problem(what, where, meaning))

    def area(self, kind: SectionType) -> bytes | None:
        """The bytes of the platform section of a kind; None when there are none."""
        section, *others = self.regions.kernel_dump.of_type(kind) or (None,)
        if section is None:
            return None
        size = min(section.length, section.dumped)
        where = f"{section.name} section"
        if others:
            self.problem("there is more than one", where, "the first was used")
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
    header = _header(parts, info, info_at)
    sections = regions.kernel_dump.sections
    memory, wrong = preserved.memory(ram, sections, regions.memory, header)
    parts.problems += wrong
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
    # Made up from a text, where there was no property: it says what was preserved all the same.
    parts.raw[ppc_notes.NT_KERNEL_DUMP] = regions.property or kernel_dump.write(regions.kernel_dump)
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
    area = parts.area(SectionType.CPU_STATE)
    if area is None:
        what, meaning = "no register save area", "the firmware's registers are lost"
        parts.problem(what, "ibm,kernel-dump", meaning)
        return ()
    parts.raw[ppc_notes.NT_REGSAVE] = area
    try:
        read = regsave.read(area)
    except BadRecord as error:
        meaning = "the firmware's registers are lost; was the save area written over?"
        parts.problem(str(error), "CPU_STATE section", meaning)
        return ()
    parts.problems += read.problems
    return read.cpus


def _hpte_save_area(parts: _Parts) -> hptesave.HpteSaveArea | None:
    area = parts.area(SectionType.HPTE)
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


def _header(parts: _Parts, info: fadump.CrashInfo | None, address: int) -> tuple[int, int] | None:
    """The memory that Linux keeps for its header, which is at physical `address`.

    Up to 6.9 the core file's header lies behind it, and its program headers say where memory goes
    on; that is on a page, whose size is not known yet.
    """
    if info is None:
        return None
    end = address + info.size
    head = None if info.elfcorehdr is None else _elf_header(parts, info.elfcorehdr)
    if head is None or info.elfcorehdr is None or not 0 <= info.elfcorehdr - end < LARGEST_PAGE:
        return address, end
    end = info.elfcorehdr + elfcore.head_size(len(head.segments))
    onward = (load.paddr for load in head.loads if 0 <= load.paddr - end < LARGEST_PAGE)
    return address, min(onward, default=end)


def _elf_header(parts: _Parts, address: int) -> elfcore.ElfCore | None:
    """The core file's header at physical `address`, None if it is none."""
    size = min(_ELF_HEADER_SIZE, max(0, parts.ram.size - address))
    try:
        return elfcore.read(lambda at, count: parts.ram.view(address + at, count), size)
    except PhypanError:
        return None


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
