"""Small crashed partitions, made with struct from the documents: phypan wrote none of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
CPU, HPTE, LOW, PARAMETERS = 0x0001, 0x0002, 0x0011, 0x0100
VMCOREINFO = b"""OSRELEASE=6.12.0-synthetic
PAGESIZE=65536
SYMBOL(_stext)=c000000000000000
SYMBOL(swapper_pg_dir)=c000000001000000
CRASHTIME=1700000000
"""


def section(kind, source, length, destination, dumped=None, error=0, request=1) -> bytes:
    """A dump section of LoPAR's."""
    dumped = length if dumped is None else dumped
    return struct.pack(">IHHQQQQ", request, kind, error, source, length, dumped, destination)


def kernel_dump(*sections: bytes, status: int = 0xC000) -> bytes:
    """ibm,kernel-dump."""
    head = struct.pack(">IHHIIQQII", 1, len(sections), status, 40, 0, 0, 0, 0, 0)
    return head + b"".join(sections)


def regsave(cpus: dict[int, dict[str, int]]) -> bytes:
    """A register save area in LoPAR's layout."""
    area = b"REGSAVE\0" + struct.pack(">II12xI", 0, 0x1C, len(cpus))
    for number, registers in cpus.items():
        area += struct.pack(">8sQ", b"CPUSTRT", number)
        for name, value in registers.items():
            area += struct.pack(">8sQ", name.encode(), value)
        area += struct.pack(">8sQ", b"CPUEND", number)
    return area


def crash_info(order: str, cpu: int, words: list[int], online: int, note: tuple[int, int]) -> bytes:
    """Linux's crash info header, version 1."""
    sign = ">" if order == "big" else "<"
    head = struct.pack(sign + "QIIQQII", 0x4641444D50534947, 1, cpu, *note, 384, 8)
    return (
        head + struct.pack(sign + "48Q", *(words + [0] * 48)[:48]) + struct.pack(sign + "Q", online)
    )


def note(name: bytes, kind: int, data: bytes, order: str) -> bytes:
    """An ELF note."""
    head = struct.pack((">" if order == "big" else "<") + "III", len(name) + 1, len(data), kind)
    size = (len(name) + 4) // 4 * 4
    return head + name.ljust(size, b"\0") + data.ljust((len(data) + 3) // 4 * 4, b"\0")


def pattern(start: int, size: int) -> bytes:
    """Bytes that say at which physical address they were, in eights."""
    return struct.pack(f">{size // 8}Q", *range(start | 1 << 56, (start + size) | 1 << 56, 8))


@dataclass
class Partition:
    """The memory of a partition of some MiB after it crashed and booted again.

    Low memory of `boot` bytes was copied to `save` behind the register area; the second kernel has
    written over it since. Everything else is where it was.
    """

    order: str = "big"
    size: int = 4 * MIB
    boot: int = MIB
    save: int = 2 * MIB
    msr: int = 0x8000000000001032
    registers: dict[int, dict[str, int]] | None = None  # of each CPU; None: a few
    before: bytearray = field(init=False)  # memory when it crashed
    ram: bytearray = field(init=False)  # memory in the second boot
    property: bytes = field(init=False)

    def __post_init__(self) -> None:
        msr = self.msr | (self.order == "little")
        self.cpus = self.registers or {
            number: {
                **{f"GPR{n:02}": number << 32 | n for n in range(32)},
                "NIA": 0xC000000000010000 + number, "MSR": msr, "LR": 0xC000000000020000,
                "CTR": 1, "XER": 2, "CR": 0x28000000, "DAR": 3, "DSISR": 4,
            }
            for number in (0, 1)
        }  # fmt: skip
        self.before = bytearray(pattern(0, self.size))
        self.write_before(0x3000, b"Linux version 6.12.0-synthetic (gcc 12.2.0) #1 SMP\n\0")
        self.write_before(0x8000, note(b"VMCOREINFO", 0, VMCOREINFO, self.order) + bytes(4096))
        area = regsave(self.cpus)
        self.copy = self.save + len(area)
        self.header = self.copy + self.boot
        self.ram = bytearray(self.before)
        self.ram[: self.boot] = b"\xee" * self.boot
        self.ram[self.save : self.copy] = area
        self.ram[self.copy : self.header] = self.before[: self.boot]
        head = crash_info(self.order, 1, list(range(100, 148)), 3, (self.copy + 0x8000, 4096))
        self.end = self.header + len(head)
        self.ram[self.header : self.end] = head
        self.property = kernel_dump(
            section(CPU, 0, len(area), self.save), section(LOW, 0, self.boot, self.copy)
        )

    def write_before(self, address: int, data: bytes) -> None:
        """Put bytes into the memory that crashes."""
        self.before[address : address + len(data)] = data

    def save_to(self, folder: Path) -> Path:
        """The folder, with the files `ram` and `ibm,kernel-dump`."""
        folder.mkdir(exist_ok=True)
        (folder / "ram").write_bytes(self.ram)
        (folder / "ibm,kernel-dump").write_bytes(self.property)
        return folder


def core(
    order: str, loads: list[tuple[int, bytes]], notes: bytes = b"", machine: int = 21
) -> bytes:
    """An ELF core file: (physical address, bytes) of each segment."""
    sign = ">" if order == "big" else "<"
    ident = b"\x7fELF" + bytes([2, 2 if order == "big" else 1, 1]) + bytes(9)
    count = 1 + len(loads)
    ehdr = struct.pack(sign + "HHIQQQIHHHHHH", 4, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    at = 64 + 56 * count
    headers = [struct.pack(sign + "IIQQQQQQ", 4, 0, at, 0, 0, len(notes), len(notes), 0)]
    at += len(notes)
    for paddr, data in loads:
        vaddr = (0xC000000000000000 + paddr) % (1 << 64)
        size = len(data)
        headers.append(struct.pack(sign + "IIQQQQQQ", 1, 7, at, vaddr, paddr, size, size, 0))
        at += size
    return ident + ehdr + b"".join(headers) + notes + b"".join(data for _, data in loads)


def prstatus(order: str, pid: int, words: list[int]) -> bytes:
    """An NT_PRSTATUS note of ppc64."""
    sign = ">" if order == "big" else "<"
    regs = struct.pack(sign + "48Q", *(words + [0] * 48)[:48])
    data = bytes(32) + struct.pack(sign + "i", pid) + bytes(76) + regs + bytes(8)
    return note(b"CORE", 1, data, order)
