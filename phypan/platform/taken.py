"""A dump directory that was made before, as the second boot that finds what is in it.

So that what saves dumps can be tried on the memory of a real kernel. The memory that the second
boot writes to, and what is given back, changes here only: files stay what they are.
"""

from __future__ import annotations

import mmap
import os
import re
from dataclasses import replace
from pathlib import Path

from phypan.errors import BadRecord, InputError, Unsupported, os_errors
from phypan.formats import device_tree, elfcore, fadump, kernel_dump
from phypan.formats._records import align
from phypan.formats.kernel_dump import KernelDump, Section, SectionType
from phypan.platform.guest import Guest
from phypan.platform.hypervisor import Hypervisor
from phypan.platform.lpar import RMA_SIZE, Lpar
from phypan.platform.partition_memory import CHUNK, PartitionMemory
from phypan.platform.reservation import KERNELS, Layout
from phypan.platform.second_boot import FadumpSecondBoot

RAM, TREE = "ram", "boot2.dtb"
_MAX_HEADER = 65536
_PAGE_SIZE = re.compile(rb"^PAGESIZE=([0-9]{4,5})$", re.MULTILINE)


class FileMemory(PartitionMemory):
    """Memory that is in a file until it is written to."""

    def __init__(self, path: Path) -> None:
        with os_errors(InputError, path), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < CHUNK or size % CHUNK:
                raise InputError(f"{size} bytes, which no partition has as memory", where=str(path))
            self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        super().__init__(size)

    def _chunk(self, number: int) -> bytes:
        found = self._chunks.get(number)
        return self._file[number * CHUNK : (number + 1) * CHUNK] if found is None else found

    def _set(self, number: int, chunk: bytes) -> None:
        self._chunks[number] = chunk


class TakenGuest(Guest):
    """The kernel that died, as far as its second boot needs to know it."""

    def __init__(self, lpar: Lpar, hypervisor: Hypervisor, header: fadump.CrashInfo | None) -> None:
        assert hypervisor.active is not None
        self.lpar, self.hypervisor = lpar, hypervisor
        self.kernel = KERNELS["6.12" if header is None or header.version else "5.10"]
        self.byte_order = "little" if header is None else header.order
        self.page_size = _page_size(lpar.memory, header)
        self.layout = _layout(lpar.memory, hypervisor.active, header, self.page_size)
        self.boot_memory = self.layout.boot_memory
        self._sections = hypervisor.active.sections
        self._lines, self._clock = [], 0

    @property
    def banner(self) -> str:
        """What tells this boot from those of other dumps."""
        return f"a second boot, with {self.lpar.memory.size} bytes of memory"

    def sections(self) -> tuple[Section, ...]:
        """What is registered anew: what was before."""
        return tuple(replace(section, dumped=0, error_flags=0) for section in self._sections)


def second_boot(directory: str | os.PathLike[str]) -> FadumpSecondBoot:
    """The second boot of which `directory` has the RAM and the device tree.

    Raises InputError when they are not there or no dump waits in them, Unsupported when the dump
    is not one of fadump under phyp.
    """
    folder = Path(directory)
    memory = FileMemory(folder / RAM)
    with os_errors(InputError, folder / TREE):
        blob = (folder / TREE).read_bytes()
    tree = device_tree.read(blob)
    rtas = tree.child("rtas")
    found = rtas.properties.get("ibm,kernel-dump") if rtas else None
    if found is None:
        raise Unsupported(
            "no ibm,kernel-dump in the device tree", where=str(folder / TREE),
            hint="only dumps that PowerVM, or QEMU as it, preserved for fadump can be served",
        )  # fmt: skip
    lpar = Lpar(memory, [], rma_size=min(memory.size, RMA_SIZE))
    hypervisor = Hypervisor(lpar)
    hypervisor.active = kernel_dump.read(found)
    copies = hypervisor.active.of_type(SectionType.REAL_MODE_REGION)
    if not copies or not hypervisor.active.of_type(SectionType.CPU_STATE):
        raise Unsupported("nothing that fadump registers was preserved", where=str(folder))
    guest = TakenGuest(lpar, hypervisor, _header(memory, copies))
    return FadumpSecondBoot(lpar, hypervisor, guest, frozenset(), given_tree=tree)


def _end(copies: tuple[Section, ...] | list[Section]) -> int:
    """Physical address behind the copies of boot memory, where the crash info header is."""
    return max(copy.destination + copy.length for copy in copies)


def _header(
    memory: PartitionMemory, copies: tuple[Section, ...] | list[Section]
) -> fadump.CrashInfo | None:
    start = _end(copies)
    try:
        data = memory.read(start, min(_MAX_HEADER, memory.size - start))
        return fadump.read(data, start)
    except BadRecord:
        return None


def _note(memory: PartitionMemory, header: fadump.CrashInfo) -> bytes:
    """VMCOREINFO as the dying kernel left it."""
    if header.vmcoreinfo is not None:
        return memory.read(*header.vmcoreinfo)
    if header.elfcorehdr is None:
        return b""
    head = memory.read(header.elfcorehdr, 4096)
    core = elfcore.read(lambda at, size: head[at : at + size], len(head))
    return memory.read(core.segments[0].offset, core.segments[0].filesz)


def _page_size(memory: PartitionMemory, header: fadump.CrashInfo | None) -> int:
    told = _PAGE_SIZE.search(_note(memory, header)) if header is not None else None
    return int(told[1]) if told else 65536


def _layout(
    memory: PartitionMemory, dump: KernelDump, header: fadump.CrashInfo | None, page_size: int
) -> Layout:
    """Where the dead kernel had its save area put: what it registered says so."""
    copies = dump.of_type(SectionType.REAL_MODE_REGION)
    areas = [*dump.of_type(SectionType.CPU_STATE), *dump.of_type(SectionType.HPTE), *copies]
    start, behind = min(area.destination for area in areas), _end(copies)
    end = behind + (header.size if header else 0)
    if header is not None and header.elfcorehdr is not None:
        head = memory.read(header.elfcorehdr, 4096)
        core = elfcore.read(lambda at, size: head[at : at + size], len(head))
        end = align(header.elfcorehdr + elfcore.head_size(len(core.segments)), page_size)
    boot = max(copy.source + copy.length for copy in copies)
    return Layout(start, boot, copies[0].destination, behind, end)
