"""Dump: what is known of a crashed partition, wherever it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Self

from phypan.errors import Problem
from phypan.formats import pt_regs
from phypan.formats.pt_regs import PtRegs
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.memory import Memory
from phypan.stores import Store

if TYPE_CHECKING:  # their declarations take time to import, and the command line must start fast
    import drgn

    from phypan.formats._records import ByteOrder
    from phypan.formats.elfcore import Note
    from phypan.formats.fadump import CrashInfo
    from phypan.formats.hptesave import HpteSaveArea
    from phypan.formats.kernel_dump import KernelDump
    from phypan.formats.regsave import CpuState
    from phypan.linux.kernel import Kernel
    from phypan.linux.symbols import Symbols
    from phypan.spaces.mapping import Spaces

Registers = Literal["os", "firmware"]
_MEMBER_OF = pt_regs.FROM_FIRMWARE


@dataclass(frozen=True)
class Cpu:
    """One CPU at the crash: what the firmware saved of it, and what the kernel did.

    number    logical CPU number, Linux's own
    firmware  registers by LoPAR's name, from the register save area; None if there was none
    kernel    pt_regs that the dying kernel left (of the crashing CPU), or that a core file has
    crashing  whether this CPU brought the partition down, as far as the kernel said
    online    whether the kernel knew the CPU as online; it leaves the others out of its vmcore
    notes     register notes of a core file beside NT_PRSTATUS, where no firmware saved registers
    """

    number: int
    firmware: Mapping[str, int] | None = None
    kernel: PtRegs | None = None
    crashing: bool = False
    online: bool = True
    notes: tuple[Note, ...] = ()

    def __getitem__(self, name: str) -> int:
        """A register by LoPAR's name: the firmware's value, else the kernel's."""
        if self.firmware is not None and name in self.firmware:
            return self.firmware[name]
        if self.kernel is not None and name in _MEMBER_OF:
            return self.kernel[_MEMBER_OF[name]]
        raise KeyError(name)

    def regs(self, choice: Registers = "os") -> PtRegs:
        """pt_regs of the CPU.

        os        as the kernel would write them: its own for the crashing CPU, else the firmware's
        firmware  the firmware's for every CPU that has them
        """
        firmware = None if self.firmware is None else pt_regs.from_firmware(self.firmware)
        first, second = (firmware, self.kernel) if choice == "firmware" else (self.kernel, firmware)
        return first or second or pt_regs.of(())

    def differences(self) -> Mapping[str, tuple[int, int]]:
        """Registers that firmware and kernel tell differently: name -> (firmware, kernel)."""
        if self.firmware is None or self.kernel is None:
            return {}
        pairs = (
            (name, (self.firmware[name], self.kernel[member]))
            for name, member in _MEMBER_OF.items()
            if name in self.firmware
        )
        return {name: pair for name, pair in pairs if pair[0] != pair[1]}


@dataclass
class Dump:
    """A crashed partition. Use as a context manager, or call close().

    source       what was opened, in words and paths
    memory       physical memory of the crashed partition
    cpus         in ascending order of their numbers
    byte_order   of the crashed kernel
    page_size    of the crashed kernel, in bytes
    vmcoreinfo   what the kernel says about itself; None if nothing was found
    kernel_dump  the structure that the firmware filled in; None where there was none
    hptesave     entries of the VRMA; None where there were none
    crash_info   Linux's header of a firmware-assisted dump
    crash_time   seconds since 1970; None if unknown
    incomplete   whether memory that belongs to the dump is damaged or was not preserved
    dump_level   which kinds of pages were left out when it was written, makedumpfile's -d
    format       the writer that writes what was opened: "kdump", else "elf"
    notes        notes of a core file that belong to no CPU and that phypan does not read
    raw          areas as they were preserved, by the type of phypan's note that holds them
    problems     all that is inconsistent or missing
    inherited    those of them that the file tells of what it was made of
    hpt          an image of the hashed page table, as the hypervisor had it; None without one
    debuginfo    files with debuginfo that the user gave
    force        whether to use a vmlinux of another build
    """

    source: str
    memory: Memory
    cpus: Sequence[Cpu] = ()
    byte_order: ByteOrder = "big"
    page_size: int = 65536
    vmcoreinfo: Vmcoreinfo | None = None
    kernel_dump: KernelDump | None = None
    hptesave: HpteSaveArea | None = None
    crash_info: CrashInfo | None = None
    crash_time: int | None = None
    incomplete: bool = False
    dump_level: int = 0
    format: str = "elf"
    notes: tuple[Note, ...] = ()
    raw: Mapping[int, bytes] = field(default_factory=lambda: MappingProxyType({}))
    problems: list[Problem] = field(default_factory=list)
    inherited: Sequence[Problem] = ()
    stores: Iterable[Store] = ()
    hpt: Store | None = None
    debuginfo: tuple[Path, ...] = ()
    force: bool = False

    @cached_property
    def spaces(self) -> Spaces:
        """Its address spaces by name: spaces["kernel"].translate(address)."""
        from phypan.spaces.mapping import Spaces

        found = Spaces(self)
        found.find_pgd = self._pgd
        return found

    def _pgd(self, pid: int) -> int:
        from phypan.linux import tasks

        return tasks.pgd(self, pid)

    @cached_property
    def kernel(self) -> Kernel:
        """The crashed kernel: its symbols, types and debuginfo."""
        from phypan.linux.kernel import Kernel

        return Kernel(self)

    @property
    def program(self) -> drgn.Program:
        """The crashed kernel for drgn: dump.program["init_task"].comm.

        Raises Unsupported where drgn is not installed, or the dump does not tell enough.
        """
        return self.kernel.program

    @property
    def symbols(self) -> Symbols:
        """Names of addresses; empty where neither the dump nor debuginfo has any."""
        return self.kernel.symbols

    @property
    def types(self) -> str | None:
        """Where `program` has its types from: "BTF" in the dump, or "DWARF"; None: from nowhere."""
        return self.kernel.types

    @property
    def crashing_cpu(self) -> Cpu | None:
        """The CPU that brought the partition down, if the kernel said which."""
        return next((cpu for cpu in self.cpus if cpu.crashing), None)

    def close(self) -> None:
        """Close the files behind it."""
        with ExitStack() as stack:
            for store in self.stores:
                stack.callback(store.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def cpus_from(
    states: Iterable[CpuState], info: CrashInfo | None
) -> tuple[list[Cpu], list[Problem]]:
    """(the CPUs that firmware and kernel saved, in ascending order; what is missing among them)."""
    crashing = info.crashing_cpu if info else None
    online = info.online if info else None
    cpus: dict[int, Cpu] = {}
    twice: set[int] = set()
    for state in states:
        if state.number in cpus:
            twice.add(state.number)
            continue
        own = info is not None and state.number == crashing
        cpus[state.number] = Cpu(
            number=state.number,
            firmware=state.registers,
            kernel=info.regs if own and info else None,
            crashing=own,
            online=online is None or state.number in online,
        )
    problems = [Problem("saved twice", cpu_list(twice), "the first was used")] if twice else []
    lost = set(online or ()) - cpus.keys() if cpus else set()
    if info is not None and crashing is not None and crashing not in cpus:
        cpus[crashing] = Cpu(crashing, kernel=info.regs, crashing=True)
        where, meaning = f"CPU {crashing}, which crashed", "it has the kernel's registers only"
        problems.append(Problem("not in the register save area", where, meaning))
    if lost := lost - {crashing}:
        what, meaning = "not in the register save area", "what their registers held is lost"
        problems.append(Problem(what, cpu_list(lost), meaning))
    return [cpus[number] for number in sorted(cpus)], problems


def cpu_list(numbers: Iterable[int]) -> str:
    """CPU numbers in words, as Linux writes lists of CPUs: "CPU 3", "CPUs 0-2,5"."""
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    text = ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs[:32])
    return f"CPU{'s' if len(runs) > 1 or '-' in text else ''} {text}{',...' if runs[32:] else ''}"
