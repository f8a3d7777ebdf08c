"""The partition: its memory, its processors, its page table. What a crash leaves of it.

It knows no kernel: the guest writes to it, the hypervisor reads it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from phypan.errors import PhypanError
from phypan.formats import regsave
from phypan.formats.regsave import CpuState
from phypan.platform.hpt import HashedPageTable
from phypan.platform.partition_memory import PartitionMemory

RMA_SIZE = 256 << 20  # bytes of the virtualised real mode area
MAX_CPUS = 2048


@dataclass
class Processor:
    """One logical CPU with all registers that a register save area can hold."""

    number: int
    registers: dict[str, int]
    online: bool = True

    def state(self, *, transactional: bool = True) -> CpuState:
        """What is saved of it; without a valid checkpoint, no checkpointed registers."""
        kept = {
            name: value
            for name, value in self.registers.items()
            if transactional or regsave.REGISTERS.get(name) is not regsave.Kind.CHECKPOINTED
        }
        return CpuState(self.number, kept)


@dataclass
class Lpar:
    """A logical partition.

    memory      from physical address 0, without gaps
    processors  in ascending order of their numbers
    hpt         None for a radix guest
    """

    memory: PartitionMemory
    processors: list[Processor]
    hpt: HashedPageTable | None = None
    rma_size: int = RMA_SIZE
    log: list[str] = field(default_factory=list)  # what firmware and kernel would have printed

    def say(self, line: str) -> None:
        """A line on the console."""
        self.log.append(line)


def make(*, memory: int, cpus: int, hash_mmu: bool, seed: int) -> Lpar:
    """A partition that has just been switched on: registers hold values that follow from `seed`."""
    if not 1 <= cpus <= MAX_CPUS:
        raise PhypanError(f"{cpus} CPUs", hint=f"from 1 to {MAX_CPUS}")
    numbers = random.Random(seed)
    processors = [Processor(number, _registers(numbers, number)) for number in range(cpus)]
    lpar = Lpar(PartitionMemory(memory), processors, rma_size=min(memory, RMA_SIZE))
    if hash_mmu:
        # A page table of 1/128 of memory, as PowerVM gives one; 256 KiB at least (Power ISA).
        lpar.hpt = HashedPageTable(max(18, (memory // 128 - 1).bit_length()))
        lpar.hpt.map_vrma(lpar.rma_size)
    return lpar


def _registers(numbers: random.Random, cpu: int) -> dict[str, int]:
    values = {}
    for name in regsave.REGISTERS:
        values[name] = numbers.getrandbits(32 if name in regsave.FOUR_BYTES else 64)
    values["PIR"] = cpu
    values["PVR"] = 0x004E1202  # POWER9
    for n in range(32):  # the same registers under two names (Power ISA, VSX)
        values[f"VSR{n:02}_HI"] = values[f"FPR{n:02}"]
        values[f"VSR{n + 32}_HI"] = values[f"VR{n:02}_HI"]
        values[f"VSR{n + 32}_LO"] = values[f"VR{n:02}_LO"]
    return values
