"""What is checked of every dump of the matrix. A check is a function of a Case.

It returns a few words about what it compared, raises NotApplicable with the reason why it says
nothing about this dump, and AssertionError or PhypanError with the reason why the dump fails.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import Cell
from elftools.elf.elffile import ELFFile
from workshop import Workshop

import phypan
from phypan.formats import elfcore, ppc_notes

_CHUNK = 8 << 20
_LIMIT = 300  # seconds for a peer


class NotApplicable(Exception):
    """Why a check says nothing about this dump."""


@dataclass
class Case:
    """A dump and all that is known of it.

    scratch  an empty folder
    """

    cell: Cell
    directory: Path
    vmlinux: Path | None
    shop: Workshop
    scratch: Path

    @functools.cached_property
    def dump(self) -> phypan.Dump:
        """The dump, opened by phypan."""
        return phypan.open(self.directory)

    @functools.cached_property
    def vmcore(self) -> Path:
        """What phypan converts it to."""
        return phypan.convert(self.dump, self.scratch / "vmcore")

    @functools.cached_property
    def console(self) -> str:
        """What the guest printed."""
        return (self.directory / "console.log").read_text("utf-8", "replace").replace("\r", "")

    @functools.cached_property
    def truth(self) -> dict[str, str]:
        """What the guest said of itself before it crashed, by section."""
        found = re.search(r"PHYPAN-TRUTH-BEGIN\n(.*?)PHYPAN-TRUTH-END", self.console, re.DOTALL)
        assert found, "the guest did not tell the truth on its console"
        parts = re.split(r"^== (\S+)\n", found[1], flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True))

    @functools.cached_property
    def registers(self) -> list[dict[str, Any]]:
        """Every CPU's registers as QEMU knew them."""
        return list(json.loads((self.directory / "registers.json").read_text()))

    def processes(self) -> dict[int, str]:
        """Name by process id, of those that live longer than it takes to print them."""
        lines = re.findall(r"^(\d+) \((.*)\) \S", self.truth["processes"], re.MULTILINE)
        return {int(pid): name for pid, name in lines}

    def file(self, name: str) -> Path:
        """A file of the dump directory; NotApplicable if it is not there."""
        path = self.directory / name
        if not path.exists():
            raise NotApplicable(f"no {name}: {self._why_not(name)}")
        return path

    def _why_not(self, name: str) -> str:
        meta = json.loads((self.directory / "meta.json").read_text())
        told = meta.get(f"no {name}")
        return str(told or f"memory was preserved by {meta['preserved by']}")


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

    pattern = re.compile(crashes.named(case.cell.crash).says.encode())
    for _, data in case.dump.memory.stretches(0, case.dump.memory.end, overlap=512):
        found = pattern.search(data)
        if found:
            return found[0].decode("ascii", "replace")
    raise AssertionError(f"{pattern.pattern!r} is nowhere in memory")


def contents(case: Case) -> str:
    """A file that the guest wrote is in memory, all of it."""
    wanted = 300000 // 37
    found = sum(
        bytes(data).count(b"PHYPAN-FILE-PATTERN-0123456789abcdef\n")
        for _, data in case.dump.memory.stretches(0, case.dump.memory.end)
    )
    assert found >= wanted - 10, f"{found} of {wanted} lines of the file"
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


def _run(case: Case, *words: object, text: str = "") -> str:
    """What a peer prints. It must not wait at a prompt."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True, text=True, errors="replace", input=text, check=False, timeout=_LIMIT,
        cwd=case.scratch,
    )  # fmt: skip
    return done.stdout + done.stderr


def _debug(case: Case) -> Path:
    if case.vmlinux is None:
        raise NotApplicable("no kernel with DWARF: its debug package was not fetched")
    return case.vmlinux


def crash(case: Case) -> str:
    """crash opens phypan's vmcore and sees the guest's CPUs and processes."""
    name = "crash-be" if case.cell.byte_order == "big" else "crash-le"
    program = case.shop.path(name) / "crash"
    if not program.exists():
        raise NotApplicable(f"the piece {name} is not there")
    vmlinux = _debug(case)
    commands = case.scratch / "crash.in"
    commands.write_text("sys\nps\nbt -a\nquit\n")
    said = _run(case, program, "-s", "-i", commands, vmlinux, case.vmcore)
    cpus = re.search(r"^ +CPUS: (\d+)", said, re.MULTILINE)
    assert cpus, f"crash says: {' '.join(said.split())[-300:]}"
    assert int(cpus[1]) == case.cell.cpus, f"crash sees {cpus[1]} CPUs"
    assert "This dumpfile is incomplete" not in said
    assert "partial dump" not in said.lower()
    seen = {
        int(pid): comm
        for pid, comm in re.findall(
            r"^[> ]+(\d+) +\d+ +\d+ +[0-9a-f]{16} +\S+ +\S+ +\d+ +\d+ +(.*)$", said, re.MULTILINE
        )
    }
    _same_processes(case, {pid: comm.strip("[]") for pid, comm in seen.items()})
    assert said.count("PID: ") >= case.cell.cpus, "bt -a shows fewer CPUs"
    return f"{len(seen)} tasks"


def _same_processes(case: Case, seen: dict[int, str]) -> None:
    """Those of the guest's own that it told of, by the 15 bytes that the kernel keeps of a name."""
    truth = {
        pid: name[:15]
        for pid, name in case.processes().items()
        if name.startswith("phypan") and pid in case.processes()
    }
    truth = {pid: name for pid, name in truth.items() if name != "phypan_crash"}
    assert len(truth) >= 4, "the guest told of too few processes"
    lost = {pid: name for pid, name in truth.items() if seen.get(pid, "")[:15] != name}
    assert not lost, f"not seen: {lost}"


def drgn(case: Case) -> str:
    """drgn opens phypan's vmcore, sees the processes and unwinds the thread that crashed."""
    try:
        import drgn as library
        from drgn.helpers.linux.pid import for_each_task
    except ImportError as error:
        raise NotApplicable("drgn is not installed") from error
    program = library.Program()
    program.set_core_dump(case.vmcore)
    program.load_debug_info([_debug(case)])
    _same_processes(
        case,
        {int(t.pid): t.comm.string_().decode("utf-8", "replace") for t in for_each_task(program)},
    )
    if case.dump.crashing_cpu is None:
        return "tasks; nobody said which CPU crashed"
    frames = len(program.crashed_thread().stack_trace())
    assert frames >= 3, f"{frames} frames of the crashed thread"
    return f"{frames} frames"


def makedumpfile(case: Case) -> str:
    """makedumpfile reads phypan's vmcore: its dmesg is the guest's."""
    program = case.shop.path("makedumpfile") / "makedumpfile"
    if not program.exists():
        raise NotApplicable("the piece makedumpfile is not there")
    if case.cell.byte_order == "big":
        raise NotApplicable("makedumpfile reads dumps of its own byte order only")
    said = _run(case, program, "--dump-dmesg", case.vmcore, case.scratch / "dmesg")
    assert (case.scratch / "dmesg").exists(), f"makedumpfile says: {' '.join(said.split())[-300:]}"
    text = (case.scratch / "dmesg").read_text("utf-8", "replace")
    assert "phypan-log: numbered line 19 value=361" in text
    return f"{len(text.splitlines())} lines"


def _analysis(case: Case, name: str) -> list[Any]:
    if name not in phypan.analyses():
        raise NotApplicable(f"phypan has no analysis {name} yet")
    return list(phypan.run(case.dump, name))


def translation(case: Case) -> str:
    """Addresses that the guest told of translate, and the hashed page table agrees."""
    if not hasattr(case.dump, "spaces"):
        raise NotApplicable("phypan has no address spaces yet")
    space = case.dump.spaces["kernel"]
    for line in case.truth["symbols"].splitlines():
        address, _, name = line.split()
        if name == "linux_banner":
            text = bytes(space.read(int(address, 16), 14))
            assert text == b"Linux version ", f"linux_banner reads {text!r}"
    module = re.search(r"^phypan_crash .* (0x[0-9a-f]+)", case.truth["modules"], re.MULTILINE)
    assert module, "the module is not loaded"
    assert bytes(space.read(int(module[1], 16), 64)).strip(b"\0"), "no text of the module"
    return "linux_banner, text of the module"


def ps(case: Case) -> str:
    """`phypan ps` lists the processes that the guest told of."""
    rows = _analysis(case, "ps")
    _same_processes(case, {row.pid: row.comm for row in rows})
    return f"{len(rows)} tasks"


def dmesg(case: Case) -> str:
    """`phypan dmesg` has the numbered lines and the crash."""
    from phypan.platform.qemu import crashes

    rows = _analysis(case, "dmesg")
    text = "\n".join(str(getattr(row, "text", row)) for row in rows)
    for line in range(20):
        assert f"phypan-log: numbered line {line} value={line * line}" in text
    pattern = crashes.named(case.cell.crash).says
    assert re.search(pattern, text), f"{pattern} is not in it"
    return f"{len(rows)} lines"


def modules(case: Case) -> str:
    """`phypan modules` equals /proc/modules."""
    rows = _analysis(case, "modules")
    told = {line.split()[0] for line in case.truth["modules"].splitlines()}
    assert {row.name for row in rows} == told
    return f"{len(rows)} modules"


Check = Callable[[Case], str]
CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        opens, says, contents, memory, prstatus, registers, vectors, reopened, crash, drgn,
        makedumpfile, translation, ps, dmesg, modules,
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
