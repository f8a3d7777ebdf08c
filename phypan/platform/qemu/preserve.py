"""Preserving by the model: for a QEMU or a kernel without firmware-assisted dump.

The guest is stopped in its panic. A partition of the model is given its memory, its CPUs and its
page table, and more memory behind that; the model's hypervisor preserves there what a registered
dump would have had preserved. The guest's own memory is left whole, because its kernel had
reserved nothing.
"""

from __future__ import annotations

from pathlib import Path

from phypan.errors import OutputError, os_errors
from phypan.formats import hpte
from phypan.formats._records import align
from phypan.formats.kernel_dump import KernelDump, Section, SectionType
from phypan.platform import device_tree
from phypan.platform.hpt import H_EXACT, HashedPageTable
from phypan.platform.hypervisor import Hypervisor
from phypan.platform.lpar import Lpar, Processor
from phypan.platform.partition_memory import PartitionMemory
from phypan.platform.qemu import cpus
from phypan.platform.qemu.guest_memory import GuestMemory, create
from phypan.platform.qemu.stream import Stream

BOOT_MEMORY = 256 << 20  # bytes of low memory that are preserved, and that a second boot would use
_PAGE = 65536


def preserve(memory: GuestMemory, state: Stream, folder: Path) -> None:
    """Write `ram` and `boot2.dtb` of a second boot that finds the stopped guest preserved."""
    boot = min(BOOT_MEMORY, memory.size)
    lpar = Lpar(
        PartitionMemory(memory.size),
        [Processor(cpu.number, dict(cpu.registers)) for cpu in cpus.registers(state)],
        _page_table(state),
    )
    firmware = Hypervisor(lpar)
    sections = _sections(firmware, memory.size, boot)
    # No more than what the areas take: whatever is behind them would seem to be the guest's.
    lpar.memory = PartitionMemory(sections[-1].destination + boot)
    for address, data in memory.blocks():
        lpar.memory.write(address, bytes(data))
    firmware.registered = KernelDump(sections)
    firmware.preserve()
    lpar.memory.clear(0, boot)  # the second boot's own
    lpar.memory.save(folder / "ram")
    with os_errors(OutputError, folder), create(folder / "boot2.dtb") as file:
        file.write(device_tree.blob(firmware))


def _page_table(state: Stream) -> HashedPageTable | None:
    if state.hpt_shift is None:
        return None
    table = HashedPageTable(state.hpt_shift)
    for index, entry in state.hpt.items():
        table.h_enter(H_EXACT, index, *hpte.ENTRY.unpack(entry))
    return table


def _sections(firmware: Hypervisor, start: int, boot: int) -> tuple[Section, ...]:
    """Register save area, HPTE save area and low memory, one behind the other from `start` on."""
    cpu, hptes = firmware.cpu_area_size, firmware.hpte_area_size
    return (
        Section(SectionType.CPU_STATE, 0, cpu, start),
        Section(SectionType.HPTE, 0, hptes, start + cpu),
        Section(SectionType.REAL_MODE_REGION, 0, boot, align(start + cpu + hptes, _PAGE)),
    )
