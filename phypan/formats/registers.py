"""What is in the registers of POWER: MSR, SRR1, DSISR, CR, PVR, and the number of a trap.

Power ISA 3.1B, Book III: 4.2 Machine State Register, 7.5 Interrupt Definitions, 9.2 and 6.7.16 for
DSISR. Bits are counted from the least significant one; the ISA counts from the other end.
Linux arch/powerpc/include/asm/reg.h and interrupt.h for the names of traps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

MSR_BITS: Mapping[int, str] = {
    63: "SF",
    60: "HV",
    40: "S",
    33: "TS1",
    34: "TS2",
    32: "TM",
    25: "VEC",
    23: "VSX",
    15: "EE",
    14: "PR",
    13: "FP",
    12: "ME",
    11: "FE0",
    10: "SE",
    9: "BE",
    8: "FE1",
    5: "IR",
    4: "DR",
    2: "PMM",
    1: "RI",
    0: "LE",
}
MSR_PR = 1 << 14
DSISR_BITS: Mapping[int, str] = {  # of data storage interrupts
    30: "no translation",
    27: "protection",
    26: "copy-paste",
    25: "store",
    22: "DAWR match",
    21: "key",
    19: "bad radix configuration",
    18: "no reference or change bit",
    17: "unsupported MMU",
}
SRR1_BITS: Mapping[int, str] = {  # of instruction storage interrupts
    30: "no translation",
    28: "no execute",
    27: "protection",
    21: "key",
    19: "bad radix configuration",
    18: "no reference bit",
}
PROGRAM_BITS: Mapping[int, str] = {  # SRR1 of program interrupts
    21: "TM bad thing",
    20: "floating point",
    19: "illegal instruction",
    18: "privileged instruction",
    17: "trap",
}
TRAPS: Mapping[int, str] = {
    0x100: "system reset",
    0x200: "machine check",
    0x300: "data storage",
    0x380: "data segment",
    0x400: "instruction storage",
    0x480: "instruction segment",
    0x500: "external",
    0x600: "alignment",
    0x700: "program check",
    0x800: "floating-point unavailable",
    0x900: "decrementer",
    0x980: "hypervisor decrementer",
    0xA00: "doorbell",
    0xC00: "system call",
    0xD00: "trace",
    0xE00: "hypervisor data storage",
    0xE20: "hypervisor instruction storage",
    0xE40: "hypervisor emulation assistance",
    0xE60: "hypervisor maintenance",
    0xE80: "hypervisor doorbell",
    0xEA0: "hypervisor virtualization",
    0xF00: "performance monitor",
    0xF20: "vector unavailable",
    0xF40: "VSX unavailable",
    0xF60: "facility unavailable",
    0xF80: "hypervisor facility unavailable",
    0x1500: "soft patch",
    0x1700: "altivec assist",
    0x3000: "system call vectored",
}

PROCESSORS: Mapping[int, str] = {  # upper half of PVR (arch/powerpc/include/asm/reg.h)
    0x0035: "POWER4",
    0x0038: "POWER4+",
    0x0039: "PowerPC 970",
    0x003A: "POWER5",
    0x003B: "POWER5+",
    0x003E: "POWER6",
    0x003F: "POWER7",
    0x004A: "POWER7+",
    0x004B: "POWER8E",
    0x004C: "POWER8NVL",
    0x004D: "POWER8",
    0x004E: "POWER9",
    0x0080: "POWER10",
    0x0082: "POWER11",
}


def bits(value: int, names: Mapping[int, str]) -> tuple[str, ...]:
    """Names of the bits that are set, from the most significant one; unnamed ones left out."""
    return tuple(name for bit, name in sorted(names.items(), reverse=True) if value >> bit & 1)


def msr(value: int) -> str:
    """MSR as an oops prints it: "SF,EE,ME,IR,DR,RI,LE"."""
    return ",".join(bits(value, MSR_BITS))


def trap(number: int) -> str:
    """A trap by name. The low bits are flags of Linux's own."""
    known = TRAPS.get(number & ~0xF)
    return f"{number & ~0xF:#x} {known}" if known else f"{number:#x}"


def cause(number: int, dsisr: int, srr1: int = 0) -> tuple[str, ...]:
    """Why a storage or program interrupt was taken; nothing for others."""
    number &= ~0xF
    if number in (0x300, 0xE00):
        return bits(dsisr, DSISR_BITS)
    if number == 0x400:
        return bits(srr1, SRR1_BITS)
    return bits(srr1, PROGRAM_BITS) if number == 0x700 else ()


def processor(pvr: int) -> str:
    """The processor and its revision by PVR."""
    revision = f"{pvr >> 8 & 0xF}.{pvr & 0xFF}"
    return f"{PROCESSORS.get(pvr >> 16 & 0xFFFF, f'version {pvr >> 16:#06x}')} {revision}"


def cr(value: int) -> str:
    """The fields of CR that are not 0: "cr0 GT, cr7 EQ SO"."""
    fields = ((n, value >> (28 - 4 * n) & 0xF) for n in range(8))
    names = {3: "LT", 2: "GT", 1: "EQ", 0: "SO"}
    return ", ".join(f"cr{n} {' '.join(bits(field, names))}" for n, field in fields if field)


def meaning(name: str, value: int) -> str:
    """What a register's value says, by LoPAR's name of the register; empty if nothing is known."""
    decode: Mapping[str, Callable[[int], str]] = {
        "MSR": msr,
        "SRR1": msr,
        "CR": cr,
        "PVR": processor,
        "DSISR": lambda bits_set: ", ".join(bits(bits_set, DSISR_BITS)),
    }
    return decode[name](value) if name in decode else ""
