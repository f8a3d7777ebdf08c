"""The synthetic guest: a small but consistent Linux in the partition's memory.

Enough of a kernel for a dump of it to be read: banner, VMCOREINFO, log, pages with known contents,
and the way to its death: registration, crash info header, ibm,os-term. For the truth there is the
other guest, a real kernel.
"""

from __future__ import annotations

import random
import struct

from phypan.errors import Unsupported
from phypan.formats import elfcore, fadump, kernel_dump, ppc_notes, pt_regs
from phypan.formats._records import ByteOrder
from phypan.formats.kernel_dump import KernelDump, Section
from phypan.platform import hypervisor as rtas
from phypan.platform import kernel_log, kernel_tables
from phypan.platform.faults import Fault
from phypan.platform.hypervisor import Hypervisor
from phypan.platform.kernel_log import Line
from phypan.platform.lpar import Lpar, Processor
from phypan.platform.memory_map import Kept, MemoryMap
from phypan.platform.page_tables import Mmu
from phypan.platform.partition_memory import PartitionMemory
from phypan.platform.reservation import (
    LOW_MEMORY,
    PAGE_OFFSET,
    V0_SIZE,
    V1_SIZE,
    Kernel,
    Reservation,
)

_STRUCTURE, _ARGUMENTS, _MESSAGE = 0x600000, 0x610000, 0x611000  # physical addresses
_BANNER, _UTS, _PGD, _INFO_PAGE, _INFO_NOTE, _LOG = (
    0x700000, 0x710000, 0x720000, 0x730000, 0x740000, 0x800000,
)  # fmt: skip
_MAP, _AREAS = 0x820000, 0x830000
_IMAGE_END = 0x900000
_TOP = 65536  # bytes at the end of memory, where further kernel arguments go
_RTAS_NIA, _RTAS_MSR = 0x2FFF0010, 0x1002  # where a CPU is while the firmware works for it
CRASH_TIME = 1227000000  # seconds since 1970: November 2008, when phyp dump was new


class Guest:
    """A Linux that boots, registers, and dies."""

    def __init__(
        self,
        lpar: Lpar,
        hypervisor: Hypervisor,
        kernel: Kernel,
        *,
        byte_order: ByteOrder,
        page_size: int,
        boot_memory: int,
        seed: int,
        faults: frozenset[Fault],
    ) -> None:
        if kernel.mechanism == "phyp" and byte_order == "little":
            raise Unsupported(
                f"little-endian Linux {kernel.release}",
                hint="little-endian POWER Linux began with 3.14: take --kernel 5.10 or 6.12",
            )
        self.lpar, self.hypervisor, self.kernel = lpar, hypervisor, kernel
        self.byte_order, self.page_size, self.faults = byte_order, page_size, faults
        self.boot_memory = LOW_MEMORY if kernel.mechanism == "phyp" else boot_memory
        self.reservation = Reservation(
            kernel=kernel,
            memory=lpar.memory.size,
            boot_memory=self.boot_memory,
            page_size=page_size,
            cpu_area=hypervisor.cpu_area_size,
            hpte_area=hypervisor.hpte_area_size,
        )
        self.layout = self.reservation.layout()
        self.seed, self._numbers = seed, random.Random(seed)
        self._lines: list[Line] = []
        self._clock = 0
        self._contents: list[tuple[int, int]] = []

    # -- boot -------------------------------------------------------------------------------------

    def boot(self) -> bool:
        """Fill memory, register; whether the firmware took the registration."""
        self._say(5, self.banner.strip())
        self._fill()
        self._write_map()
        mib = self.boot_memory >> 20
        self._say(6, f"{self.kernel.mechanism}: {mib}MB of low memory are to be preserved")
        registered = self.register()
        self._write_image()
        return registered

    @property
    def banner(self) -> str:
        """linux_banner."""
        bits = "ppc64" if self.byte_order == "big" else "ppc64le"
        return (
            f"Linux version {self.kernel.release} (phypan@model) (gcc, {bits}) "
            "#1 SMP Tue Nov 18 09:20:00 UTC 2008\n"
        )

    def _say(self, level: int, text: str) -> None:
        self._clock += 12_345_000
        self._lines.append(Line(self._clock, level, text))
        self.lpar.say(text)

    def _fill(self) -> None:
        """Pages with contents that follow from the seed: all over memory, and at every border."""
        memory, numbers = self.lpar.memory, self._numbers
        borders = (_IMAGE_END, self.boot_memory - 65536, self.boot_memory, self.layout.end)
        places = [*borders, memory.size - 65536]
        places += [numbers.randrange(_IMAGE_END, memory.size - 8192) for _ in range(40)]
        for place in places:
            if 0 <= place <= memory.size - 8192:
                size = numbers.randrange(64, 8192)
                memory.write(place, numbers.randbytes(size))
                self._contents.append((place, size))
        memory.clear(self.layout.start, self.layout.end - self.layout.start)
        for page in range(0x10000, 0x40000, 0x10000):
            memory.write(page, numbers.randbytes(4096))  # "text"

    def _write_image(self) -> None:
        """What a reader looks for: banner, utsname, VMCOREINFO, log."""
        memory = self.lpar.memory
        memory.write(_BANNER, self.banner.encode() + b"\0")
        fields = ("Linux", "model", self.kernel.release, "#1 SMP", "ppc64", "(none)")
        memory.write(_UTS, b"".join(text.encode().ljust(65, b"\0") for text in fields))
        if self.kernel.lockless_log:
            log = kernel_log.lockless(self._lines, _LOG, PAGE_OFFSET, self.byte_order)
        else:
            log = kernel_log.plain(self._lines, _LOG, PAGE_OFFSET)
        for address, data in log.pieces:
            memory.write(address, data)
        self._vmcoreinfo = self._info_text(log.vmcoreinfo)
        if Fault.NO_VMCOREINFO not in self.faults:
            memory.write(_INFO_PAGE, self._vmcoreinfo)

    @property
    def mmu(self) -> Mmu:
        """What the kernel runs with."""
        return "radix" if self.lpar.hpt is None else "hash"

    def _write_map(self) -> None:
        """What each page is used for, and the kernel's own page tables."""
        memory, layout, shift = self.lpar.memory, self.layout, self.page_size.bit_length() - 1
        own = [(0, _IMAGE_END), (layout.start, layout.end - layout.start)]
        own.append((memory.size - _TOP, _TOP))
        start = kernel_tables.regions(self.mmu, shift)[2]
        self.memory_map = MemoryMap(
            memory, Kept(own, self._contents, _MAP), kernel=self.kernel, order=self.byte_order,
            page_size=self.page_size, radix=self.mmu == "radix", start=start, seed=self.seed,
        )  # fmt: skip
        self._map_info = self.memory_map.vmcoreinfo
        if self.kernel.mechanism != "fadump":
            return  # phyp dump was hash only, and its kernel tells nothing of vmalloc
        kernel_tables.write(
            memory, _PGD, mmu=self.mmu, page_shift=shift, release=self.version,
            order=self.byte_order, size=memory.size, pieces=self.memory_map.pieces,
        )  # fmt: skip
        if self.version < (6, 9):
            self._map_info += kernel_tables.write_areas(
                memory, _AREAS, mmu=self.mmu, page_shift=shift, order=self.byte_order
            )
        else:
            vmalloc = kernel_tables.regions(self.mmu, shift)[0]
            self._map_info += f"NUMBER(VMALLOC_START)={vmalloc:#x}\n"

    @property
    def version(self) -> tuple[int, ...]:
        """The kernel's, as far as it matters."""
        return tuple(int(part) for part in self.kernel.release.split(".")[:2])

    def _info_text(self, log: tuple[str, ...]) -> bytes:
        lines = [
            f"OSRELEASE={self.kernel.release}",
            f"PAGESIZE={self.page_size}",
            f"SYMBOL(init_uts_ns)={PAGE_OFFSET + _UTS:x}",
            "OFFSET(uts_namespace.name)=0",
            f"SYMBOL(swapper_pg_dir)={PAGE_OFFSET + _PGD:x}",
            f"SYMBOL(_stext)={PAGE_OFFSET:x}",
            *log,
        ]
        if self.kernel.header == 1:
            lines.append(f"NUMBER(RADIX_MMU)={int(self.lpar.hpt is None)}")
        if self.kernel.mechanism == "fadump":
            lines.append("KERNELOFFSET=0")
        return "".join(f"{line}\n" for line in lines).encode() + self._map_info.encode()

    # -- registration -----------------------------------------------------------------------------

    def sections(self) -> tuple[Section, ...]:
        """What is registered."""
        return self.reservation.sections()

    def register(self) -> bool:
        """Register for a dump, as the first and the second boot do; whether it was accepted."""
        structure = kernel_dump.write(KernelDump(self.sections()))
        self.lpar.memory.write(_STRUCTURE, structure)
        for _ in range(4):
            status = self._rtas(
                rtas.CONFIGURE_KERNEL_DUMP, rtas.REGISTER, _STRUCTURE, len(structure)
            )
            if status != rtas.BUSY and not 9900 <= status <= 9905:
                break
            self._say(6, f"{self.kernel.mechanism}: the firmware is busy ({status})")
        done = (
            "registered" if status == rtas.SUCCESS else f"unexpected error ({status}) on register"
        )
        self._say(6, f"{self.kernel.mechanism}: {done}")
        return status == rtas.SUCCESS

    def invalidate(self, command: int) -> int:
        """Say that the dump was taken; the status."""
        return self._rtas(rtas.CONFIGURE_KERNEL_DUMP, command, _STRUCTURE, 0)

    def _rtas(self, token: int, *inputs: int) -> int:
        self._write_arguments(token, *inputs)
        return self.hypervisor.rtas(_ARGUMENTS)

    def _write_arguments(self, token: int, *inputs: int) -> None:
        cells = struct.pack(f">{3 + len(inputs)}I", token, len(inputs), 1, *inputs) + bytes(4)
        self.lpar.memory.write(_ARGUMENTS, cells)

    # -- death ------------------------------------------------------------------------------------

    def die(self, cpu: int, message: str) -> PartitionMemory:
        """Panic on `cpu`; memory as it was when the firmware was told (ibm,os-term)."""
        self._say(0, f"Kernel panic - not syncing: {message}")
        self._write_image()
        processor = self.lpar.processors[cpu]
        for other in self.lpar.processors:
            self._in_kernel(other)
        regs = pt_regs.from_firmware(processor.registers).replace(trap=0x700)
        self._note()
        if self.kernel.header is not None and Fault.NO_HEADER not in self.faults:
            self._write_header(cpu, regs)
        processor.registers.update(NIA=_RTAS_NIA, MSR=_RTAS_MSR, GPR03=_ARGUMENTS)
        text = f"OS panic: {message}".encode()[:2047]
        self.lpar.memory.write(_MESSAGE, text + bytes(1))
        self._write_arguments(rtas.OS_TERM, _MESSAGE)
        before = self.lpar.memory.snapshot()
        self.hypervisor.rtas(_ARGUMENTS)
        return before

    def _in_kernel(self, processor: Processor) -> None:
        """Registers of a CPU that runs the kernel."""
        stack = PAGE_OFFSET + 0x500000 + processor.number * 0x4000
        little = pt_regs.MSR_LE if self.byte_order == "little" else 0
        processor.registers.update(
            NIA=PAGE_OFFSET + 0x20000 + 4 * processor.number,
            MSR=0x8000000000001032 | little,
            LR=PAGE_OFFSET + 0x20100,
            GPR01=stack,
        )

    def _note(self) -> None:
        """VMCOREINFO as a note, with the time of the crash."""
        if Fault.NO_VMCOREINFO in self.faults:
            return
        text = self._vmcoreinfo + f"CRASHTIME={CRASH_TIME}\n".encode()
        note = elfcore.write_notes([elfcore.Note(ppc_notes.VMCOREINFO, 0, text)], self.byte_order)
        self._note_size = len(note)
        self.lpar.memory.write(_INFO_NOTE, note)

    def _write_header(self, cpu: int, regs: pt_regs.PtRegs) -> None:
        online = frozenset(p.number for p in self.lpar.processors if p.online)
        version = self.kernel.header or 0
        size = V0_SIZE if version == 0 else V1_SIZE
        relocated = self.layout.copy + _INFO_NOTE
        lost = Fault.NO_VMCOREINFO in self.faults
        info = fadump.CrashInfo(
            version=version,
            order=self.byte_order,
            crashing_cpu=cpu,
            regs=regs,
            online=online,
            size=size,
            elfcorehdr=self.layout.header + size if version == 0 else None,
            vmcoreinfo=None if lost else (relocated, self._note_size),
        )
        self.lpar.memory.write(self.layout.header, fadump.write(info))
        if version == 0:
            note = 0 if lost else self._note_size
            head = self.reservation.elf_header(self.byte_order, relocated, note)
            self.lpar.memory.write(self.layout.header + size, head)
