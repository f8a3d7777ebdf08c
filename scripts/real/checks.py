"""What is checked of every dump of the matrix. A check is a function of a Case.

It returns a few words about what it compared, raises NotApplicable with the reason why it says
nothing about this dump, and AssertionError or PhypanError with the reason why the dump fails.
"""

from __future__ import annotations

import mmap
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import analyses
from case import Case, NotApplicable, same_processes
from elftools.elf.elffile import ELFFile

import phypan
from phypan.formats import elfcore, ppc_notes

_CHUNK = 8 << 20
_SYSTEM_RESET = 0x100  # the interrupt that QEMU's inject-nmi makes


def opens(case: Case) -> str:
    """phypan opens it and has nothing to complain about."""
    expected = {"notes"} if case.cell.how == "plain" else set()  # QEMU writes no VMCOREINFO
    odd = [str(problem) for problem in case.dump.problems if problem.where not in expected]
    assert not odd, "; ".join(odd)
    assert not case.dump.incomplete, "incomplete"
    assert case.dump.byte_order == case.cell.byte_order
    release = case.truth["uname"].split()[2]
    assert case.dump.vmcoreinfo is not None
    assert case.dump.vmcoreinfo.release == release
    return release


def says(case: Case) -> str:
    """The kernel's log in memory tells of this crash."""
    from phypan.platform.qemu import crashes

    if not crashes.named(case.cell.crash).says:
        assert case.dump.crash_info
        assert case.dump.crash_info.regs["trap"] == _SYSTEM_RESET
        return "nothing, but the registers that the kernel saved are those of a system reset"
    pattern = re.compile(crashes.named(case.cell.crash).says.encode())
    for _, data in case.dump.memory.stretches(0, case.dump.memory.end, overlap=512):
        found = pattern.search(data)
        if found:
            return found[0].decode("ascii", "replace")
    raise AssertionError(f"{pattern.pattern!r} is nowhere in memory")


def contents(case: Case) -> str:
    """A file that the guest wrote is in memory, all of it."""
    wanted = 300000 // 37
    torn = 300000 // case.dump.page_size + 2  # lines that lie across two pages
    found = sum(
        bytes(data).count(b"PHYPAN-FILE-PATTERN-0123456789abcdef\n")
        for _, data in case.dump.memory.stretches(0, case.dump.memory.end)
    )
    assert found >= wanted - torn, f"{found} of {wanted} lines of the file"
    return f"{found} lines"


def _loads(path: Path) -> dict[int, tuple[int, int]]:
    """(file offset, bytes) of each PT_LOAD by physical address, by pyelftools."""
    with path.open("rb") as file:
        return {
            segment["p_paddr"]: (segment["p_offset"], segment["p_filesz"])
            for segment in ELFFile(file).iter_segments("PT_LOAD")
            if segment["p_filesz"]
        }


def memory(case: Case) -> str:
    """PT_LOADs of phypan's vmcore hold what those of the kernel's own /proc/vmcore do."""
    theirs, ours = case.file("vmcore.kernel"), case.vmcore
    wanted, have = _loads(theirs), _loads(ours)
    assert {at: size for at, (_, size) in have.items()} == {
        at: size for at, (_, size) in wanted.items()
    }, "other stretches of memory"
    with theirs.open("rb") as a, ours.open("rb") as b:
        for address, (offset, size) in wanted.items():
            for at in range(0, size, _CHUNK):
                length = min(_CHUNK, size - at)
                left = os.pread(a.fileno(), length, offset + at)
                right = os.pread(b.fileno(), length, have[address][0] + at)
                assert left == right, f"differs near physical address {address + at:#x}"
    return f"{sum(size for _, size in wanted.values()) >> 20} MiB"


def _statuses(path: Path) -> list[tuple[int, ...]]:
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    core = elfcore.read(lambda at, size: data[at : at + size], len(data))
    return [
        ppc_notes.read_prstatus(note.data, core.order).regs.words
        for segment in core.segments
        if segment.type == elfcore.PT_NOTE
        for note in elfcore.read_notes(
            data[segment.offset : segment.offset + segment.filesz], core.order
        )
        if note.name == ppc_notes.CORE and note.type == ppc_notes.NT_PRSTATUS
    ]


def prstatus(case: Case) -> str:
    """NT_PRSTATUS of phypan's vmcore equals that of the kernel's own, for every CPU."""
    theirs, ours = _statuses(case.file("vmcore.kernel")), _statuses(case.vmcore)
    assert ours == theirs
    assert len(ours) == case.cell.cpus
    return f"{len(ours)} CPUs"


# What QEMU 11.1 writes as 0, whatever it is: into the register save area, and into NT_PRSTATUS.
_LOST_BY_QEMU = {"qemu": {"LR", "CTR", "XER", "CFAR"}, "plain": {"DAR", "DSISR"}, "model": set()}


def registers(case: Case) -> str:
    """Every CPU's registers are what QEMU knew at the crash."""
    dump, compared = case.dump, 0
    assert [cpu.number for cpu in dump.cpus] == [truth["cpu"] for truth in case.registers]
    for cpu, truth in zip(dump.cpus, case.registers, strict=True):
        for name, value in _known(truth).items():
            try:
                ours = cpu[name]
            except KeyError:
                continue
            if ours == 0 and name in _LOST_BY_QEMU[case.cell.how]:
                continue
            if case.cell.how == "qemu" and name == "GPR03" and cpu.crashing:
                continue  # it is in the middle of its call to the firmware
            assert ours == value, f"CPU {cpu.number} {name}: {ours:#x}, QEMU knew {value:#x}"
            compared += 1
    return f"{compared} values"


_BY_LOPAR = {"nip": "NIA"} | {
    name: name.upper()
    for name in "msr cr lr ctr xer cfar dar dsisr srr0 srr1 pvr vrsave sprg0 sprg1 sprg2".split()
}


def _known(truth: dict[str, Any]) -> dict[str, int]:
    values = {f"GPR{n:02}": int(value, 16) for n, value in enumerate(truth["gpr"])}
    values |= {f"FPR{n:02}": int(value, 16) for n, value in enumerate(truth["fpr"])}
    for n, value in enumerate(truth["vr"]):
        high, low = divmod(int(value, 16), 1 << 64)
        values[f"VR{n:02}_HI"], values[f"VR{n:02}_LO"] = high, low
    values |= {theirs: int(truth[name], 16) for name, theirs in _BY_LOPAR.items()}
    return values


def vectors(case: Case) -> str:
    """Floating-point and vector registers in the ELF notes of QEMU are what QEMU knew."""
    if case.cell.how != "plain":
        raise NotApplicable("QEMU's firmware saves none of them")
    order = case.cell.byte_order
    compared = 0
    for cpu, truth in zip(case.dump.cpus, case.registers, strict=True):
        notes = {note.type: note.data for note in cpu.notes}
        for kind, name, size in (
            (ppc_notes.NT_PRFPREG, "fpr", 8),
            (ppc_notes.NT_PPC_VMX, "vr", 16),
            (ppc_notes.NT_PPC_VSX, "vsr", 8),
        ):
            data = notes[kind]
            ours = [int.from_bytes(data[at : at + size], order) for at in range(0, 32 * size, size)]  # type: ignore[arg-type]
            theirs = [int(value[-2 * size :], 16) for value in truth[name]]
            assert ours == theirs, f"CPU {cpu.number} {name}"
            compared += sum(map(bool, ours))
    return f"{compared} values that are not 0"


def reopened(case: Case) -> str:
    """phypan opens its own vmcore as the same dump."""
    with phypan.open(case.vmcore) as again:
        assert again.cpus == case.dump.cpus
        assert again.raw == case.dump.raw
        assert list(again.memory.holes()) == list(case.dump.memory.holes())
        assert again.problems == case.dump.problems or case.cell.how == "plain"
    return "the same"


def crash(case: Case) -> str:
    """crash opens phypan's vmcore, finds it complete and sees the guest's CPUs."""
    said = case.crash_says("sys")
    cpus = re.search(r"^ +CPUS: (\d+)", said, re.MULTILINE)
    assert cpus, f"crash says: {' '.join(said.split())[-300:]}"
    assert int(cpus[1]) == case.cell.cpus, f"crash sees {cpus[1]} CPUs"
    assert not re.search(r"\[(INCOMPLETE|PARTIAL DUMP)\]", said + case.crash_says(""))
    return f"{cpus[1]} CPUs"


def drgn(case: Case) -> str:
    """drgn opens phypan's vmcore, sees the processes and unwinds the thread that crashed."""
    program = analyses.program(case)
    same_processes(case, analyses.by_drgn(program))
    cpu = case.dump.crashing_cpu
    if cpu is None:
        return "tasks; nobody said which CPU crashed"
    try:
        trace = program.crashed_thread().stack_trace()
    except LookupError:  # it died of an oops, before panic() noted the CPU
        from drgn.helpers.linux.sched import cpu_curr

        trace = program.stack_trace(cpu_curr(program, cpu.number))
    least = 1 if case.cell.crash == "nmi" else 3  # which may come in user mode
    assert len(trace) >= least, f"{len(trace)} frames of the crashed thread"
    return f"{len(trace)} frames"


def makedumpfile(case: Case) -> str:
    """makedumpfile reads phypan's vmcore and finds the guest's log in it."""
    text = analyses.dmesg_of_makedumpfile(case)
    assert "phypan-log: numbered line 19 value=361" in text
    return f"{len(text.splitlines())} lines"


Check = Callable[[Case], str]
CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        opens, says, contents, memory, prstatus, registers, vectors, reopened, crash, drgn,
        makedumpfile, analyses.translation, analyses.hpt, analyses.vtop, analyses.dmesg,
        analyses.ps, analyses.bt, analyses.modules, analyses.locks,
    )
}  # fmt: skip


def run(case: Case) -> Iterator[tuple[str, str, str]]:
    """(check, "ok" or "failed" or "-", words about it) of all checks."""
    for name, check in CHECKS.items():
        try:
            yield name, "ok", check(case)
        except NotApplicable as reason:
            yield name, "-", str(reason)
        except (AssertionError, phypan.PhypanError, subprocess.TimeoutExpired) as error:
            yield name, "failed", str(error).split("\n")[0][:300] or type(error).__name__
        except Exception as error:  # noqa: BLE001 - a broken check fails its cell, not the run
            yield name, "failed", f"{type(error).__name__}: {error}"[:300]
