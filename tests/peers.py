"""Fixtures for the peers: crash, libkdumpfile, makedumpfile, QEMU, and files that they may read."""

from __future__ import annotations

import fcntl
import functools
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import phypan
from phypan.formats import elfcore
from phypan.sinks import FileOutput
from tests import real_dumps
from tests.needs import missing


@pytest.fixture(scope="session")
def peer() -> Callable[[str], str]:
    """The path of a program that is not part of phypan."""
    return program


def program(name: str) -> str:
    """The path of a program; the test ends here if there is none."""
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is not installed")
        raise AssertionError
    return path


@pytest.fixture(scope="session")
def makedumpfile() -> str:
    """makedumpfile for ppc64el: it reads dumps of the architecture that it was built for."""
    if platform.machine() == "ppc64le":
        return program("makedumpfile")
    pieces = real_dumps.CACHE.parent / "real-kernels" / "pieces"
    path = pieces / "makedumpfile" / "makedumpfile"
    if not path.exists():
        missing(f"no {path}: scripts/real/get.py makedumpfile puts it there")
    program("qemu-ppc64le-static")
    return str(path)


@pytest.fixture(scope="session")
def qemu() -> str:
    """QEMU for POWER: the one that is installed, or that was fetched to make dumps."""
    name = "qemu-system-ppc64"
    path = shutil.which(name) or real_dumps.FURTHER.parent / "pieces" / "qemu" / name
    if not Path(path).exists():
        missing(f"{name} is not installed")
    return str(path)


@dataclass(frozen=True)
class Vmcores:
    """Two files of one crash: phypan's, and the one that the second kernel built itself."""

    ours: Path
    kernels: Path


def run_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share, and no other run does."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def vmcores(tmp_path_factory: pytest.TempPathFactory) -> Callable[[real_dumps.RealDump], Vmcores]:
    """Both vmcores of a dump of a real kernel, made once for all workers of a run."""
    folder = run_folder(tmp_path_factory)

    def make(real: real_dumps.RealDump) -> Vmcores:
        made = Vmcores(folder / f"vmcore-{real.name}", folder / f"kernels-vmcore-{real.name}")
        with _locked(folder / f".{real.name}.lock"):
            if not made.kernels.exists():
                with phypan.open(real.path) as dump:
                    phypan.convert(dump, made.ours, force=True)
                    _kernels_own(real, dump, made.kernels)
        return made

    return make


def _kernels_own(real: real_dumps.RealDump, dump: phypan.Dump, path: Path) -> None:
    """The /proc/vmcore of the second kernel: its head, and the memory behind it.

    That memory is taken from the dump; test_convert.py proves by checksums that it is the same.
    """
    head = real.vmcore_head
    core = elfcore.read(lambda at, size: head[at : at + size], len(head))
    with FileOutput(path, force=True) as output:
        output.write_at(0, head)
        for load in core.loads:
            for piece in dump.memory.pieces(load.paddr, load.paddr + load.filesz):
                assert isinstance(piece, phypan.Extent)
                at = load.offset + piece.start - load.paddr
                output.copy(piece.store, piece.offset, piece.size, at)
        output.truncate(core.loads[-1].offset + core.loads[-1].filesz)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def crash(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """What crash says to commands on a vmcore: it was built for one byte order or the other."""
    return lambda real, vmcore, *commands: _crash(real, vmcore, tmp_path, commands)


CRASH_COMMANDS = (
    *("sys", "ps", "bt -a", "log", "mod", "kmem -i", "mount", "runq", "irq", "timer"),
    *("rd linux_banner 8", "sym schedule", "struct -o task_struct"),
)


@pytest.fixture(scope="session")
def crash_says(
    vmcores: Callable[[real_dumps.RealDump], Vmcores],
) -> Callable[[real_dumps.RealDump, str], str]:
    """What crash prints for one of CRASH_COMMANDS. It is started once for each dump."""

    @functools.cache
    def answers(real: real_dumps.RealDump) -> dict[str, str]:
        with tempfile.TemporaryDirectory() as folder:
            return _crash(real, vmcores(real).ours, Path(folder), CRASH_COMMANDS)

    return lambda real, command: answers(real)[command]


def _crash(
    real: real_dumps.RealDump, vmcore: Path, folder: Path, commands: tuple[str, ...]
) -> dict[str, str]:
    big = real.name.startswith("be")
    built = _unpacked("bin/crash-ppc64be" if big else "bin/crash-ppc64")
    command = [*([program("qemu-ppc64-static")] if big else []), str(built)]
    # No standard input: crash waits at a prompt when a command fails.
    run = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "cwd": folder}
    if subprocess.run([*command, "--version"], check=False, **run).returncode:  # type: ignore[call-overload]
        missing("crash does not start: are its libraries installed?")
    script = folder / "commands"
    lines = [f"{text} > {number}" for number, text in enumerate(commands)]
    script.write_text("\n".join([*lines, "quit", ""]))
    files = [str(script), str(real.vmlinux), str(vmcore)]
    done = subprocess.run([*command, "-s", "-i", *files], timeout=300, check=False, **run)  # type: ignore[call-overload]
    said = {text: (folder / str(n)) for n, text in enumerate(commands)}
    answers = {
        text: path.read_text(errors="replace") for text, path in said.items() if path.exists()
    }
    return {"messages": done.stdout + done.stderr, **answers}


def _unpacked(name: str) -> Path:
    try:
        return real_dumps.unpacked(name)
    except FileNotFoundError as error:
        missing(str(error))
        raise


@pytest.fixture
def libkdumpfile() -> Callable[[str, object], str]:
    """Run a script with Debian's python3-libkdumpfile, which is the system's Python's."""
    python = "/usr/bin/python3"
    check = (
        subprocess.run([python, "-c", "import kdumpfile"], capture_output=True, check=False)
        if Path(python).exists()
        else None
    )
    if check is None or check.returncode:
        missing("python3-libkdumpfile is not installed")

    def run(script: str, *arguments: object) -> str:
        command = [python, "-c", script, *(str(argument) for argument in arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return run
