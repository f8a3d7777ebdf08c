"""struct pt_regs of ppc64: the registers that Linux saves, and how it fills them from firmware.

Linux arch/powerpc/include/asm/ptrace.h and uapi/asm/ptrace.h: 44 words in the same order since 2.6;
newer kernels keep more behind them (ppr, kuap, ...), which a core file shows as words 44 to 47.
The words are in the byte order of the kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phypan.formats._records import STRUCT_ORDER, ByteOrder, Bytes, pack

NAMES = (
    *(f"gpr{n}" for n in range(32)),
    *"nip msr orig_gpr3 ctr link xer ccr softe trap dar dsisr result".split(),
)
WORDS = 48  # of pr_reg in NT_PRSTATUS: ELF_NGREG
INDEX: Mapping[str, int] = {name: index for index, name in enumerate(NAMES)}
# Register of the save area -> member of pt_regs, as rtas_fadump_set_regval() does it
# (arch/powerpc/platforms/pseries/rtas-fadump.c); whatever else the firmware saved is dropped there.
FROM_FIRMWARE: Mapping[str, str] = {
    **{f"GPR{n:02}": f"gpr{n}" for n in range(32)},
    "NIA": "nip",
    "MSR": "msr",
    "CTR": "ctr",
    "LR": "link",
    "XER": "xer",
    "CR": "ccr",
    "DAR": "dar",
    "DSISR": "dsisr",
}
MSR_LE = 1  # the processor was in little-endian mode
MSR_PR = 1 << 14  # problem state: user mode


@dataclass(frozen=True)
class PtRegs:
    """48 words; those without a name are what a kernel keeps behind the 44 of old."""

    words: tuple[int, ...]

    def __getitem__(self, name: str) -> int:
        return self.words[INDEX[name]]

    def replace(self, **values: int) -> PtRegs:
        """The same with some words changed: regs.replace(link=0)."""
        words = list(self.words)
        for name, value in values.items():
            words[INDEX[name]] = value
        return PtRegs(tuple(words))


def of(words: Iterable[int]) -> PtRegs:
    """PtRegs of up to 48 words; the rest is zero."""
    given = tuple(words)[:WORDS]
    return PtRegs(given + (0,) * (WORDS - len(given)))


def read(data: Bytes, order: ByteOrder) -> PtRegs:
    """PtRegs from the first 48 words in `data`, or as many as there are."""
    count = min(len(data) // 8, WORDS)
    return of(struct.unpack_from(f"{STRUCT_ORDER[order]}{count}Q", data))


def write(regs: PtRegs, order: ByteOrder) -> bytes:
    """All 48 words."""
    return pack(struct.Struct(f"{STRUCT_ORDER[order]}{WORDS}Q"), *regs.words, where="pt_regs")


def from_firmware(registers: Mapping[str, int]) -> PtRegs:
    """What Linux makes of a CPU in the register save area: 40 registers, the other words zero."""
    words = [0] * WORDS
    for source, member in FROM_FIRMWARE.items():
        words[INDEX[member]] = registers.get(source, 0)
    return PtRegs(tuple(words))
