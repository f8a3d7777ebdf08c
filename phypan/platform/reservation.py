"""Reservation: where each kernel has its save area put, and what it registers.

phyp_dump.c and prom.c of 3.0; fadump.c and rtas-fadump.c of 5.10 and 6.12.
"""

from __future__ import annotations

from dataclasses import dataclass

from phypan.errors import PhypanError
from phypan.formats import elfcore
from phypan.formats._records import ByteOrder, align
from phypan.formats.kernel_dump import Section, SectionType

PAGE_OFFSET = 0xC000000000000000
LOW_MEMORY = 256 << 20  # bytes that phyp dump preserves
V0_SIZE, V1_SIZE = 24 + 384 + 256, 40 + 384 + 256  # bytes of the crash info header
PARAMETERS = 2048  # bytes of the area for further kernel arguments
_TOP = 65536  # bytes at the end of memory that it lies in


@dataclass(frozen=True)
class Kernel:
    """A kernel that the guest can be, by what matters of it for a dump."""

    release: str
    mechanism: str  # "phyp" or "fadump"
    header: int | None  # version of the crash info header
    lockless_log: bool
    byte_order: ByteOrder = "little"  # unless another is asked for


KERNELS = {
    "2.6.32": Kernel("2.6.32.12-phyp", "phyp", None, False, "big"),
    "5.10": Kernel("5.10.0-fadump", "fadump", 0, True),
    "6.12": Kernel("6.12.0-fadump", "fadump", 1, True),
}


@dataclass(frozen=True)
class Layout:
    """Where the guest had its save area put. Physical addresses, bytes."""

    start: int  # of the register save area
    boot_memory: int  # bytes of low memory that are preserved
    copy: int  # of low memory
    header: int  # crash info header
    end: int
    parameters: int | None = None


@dataclass(frozen=True)
class Reservation:
    """What a kernel asks of the firmware, and what it is told of it: bytes."""

    kernel: Kernel
    memory: int
    boot_memory: int
    page_size: int
    cpu_area: int
    hpte_area: int

    def layout(self) -> Layout:
        """Where the save area goes; PhypanError when memory is too small for it."""
        layout = self._at_the_top() if self.kernel.mechanism == "phyp" else self._behind_boot()
        end = layout.copy + layout.boot_memory
        limit = self.memory if layout.parameters is None else layout.parameters
        if layout.start < self.boot_memory or max(layout.end, end) > limit:
            needed = 2 * self.boot_memory + self.cpu_area + self.hpte_area + 4 * _TOP
            raise PhypanError(
                f"{self.memory >> 20} MiB of memory for {self.boot_memory >> 20} MiB to preserve",
                where="platform model",
                hint=f"it takes {(needed >> 20) + 1} MiB at least",
            )
        return layout

    def _at_the_top(self) -> Layout:
        reserve = max(LOW_MEMORY, self.memory // 20 & ~(LOW_MEMORY - 1))
        start = self.memory - self.cpu_area - self.hpte_area - reserve
        start &= ~(self.page_size - 1)
        copy = start + self.cpu_area + self.hpte_area
        return Layout(start, LOW_MEMORY, copy, copy + LOW_MEMORY, self.memory)

    def _behind_boot(self) -> Layout:
        page, boot = self.page_size, self.boot_memory
        start = align(boot, page)
        copy = start + self.cpu_area + self.hpte_area
        if self.kernel.header == 1:
            copy = align(copy, page)
            end = copy + boot + V1_SIZE  # not on a page: so it is in real ones
            return Layout(start, boot, copy, copy + boot, end, self.memory - _TOP)
        header = copy + boot
        return Layout(
            start, boot, copy, header, align(header + V0_SIZE + elfcore.head_size(3), page)
        )

    def sections(self) -> tuple[Section, ...]:
        """What is registered."""
        at = self.layout()
        sections = [
            Section(SectionType.CPU_STATE, 0, self.cpu_area, at.start),
            Section(SectionType.HPTE, 0, self.hpte_area, at.start + self.cpu_area),
            Section(SectionType.REAL_MODE_REGION, 0, at.boot_memory, at.copy),
        ]
        if at.parameters is not None:
            place = at.parameters
            sections.append(Section(SectionType.PARAMETER_AREA, place, PARAMETERS, place))
        return tuple(sections)

    def elf_header(self, order: ByteOrder, note: int, note_size: int) -> bytes:
        """The core file's header that kernels before 6.10 keep behind their own.

        note  physical address of VMCOREINFO's note, in the copy
        """
        at = self.layout()
        notes = elfcore.Segment(elfcore.PT_NOTE, note, 0, 0, note_size, note_size, flags=0)
        loads = [(0, at.boot_memory, at.copy), (at.end, self.memory - at.end, at.end)]
        segments = tuple(
            elfcore.Segment(elfcore.PT_LOAD, offset, PAGE_OFFSET + start, start, length, length)
            for start, length, offset in loads
        )
        core = elfcore.ElfCore(order, 0, elfcore.EM_PPC64, (notes, *segments))
        return elfcore.write_head(core)
