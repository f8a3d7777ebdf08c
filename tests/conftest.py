"""Fixtures: dumps of real kernels, peers, the command line; what is missing is skipped.

With PHYPAN_CI=1 nothing may be missing: a test that would be skipped for a peer or for the dumps of
real kernels fails.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import phypan
from phypan.formats import elfcore
from phypan.sinks import FileOutput
from tests import real_dumps

settings.register_profile(
    "phypan", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("phypan")
IN_CI = os.environ.get("PHYPAN_CI") == "1"


def missing(reason: str) -> None:
    """Skip the test; in CI, fail it."""
    if IN_CI:
        pytest.fail(f"CI must have it: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(params=real_dumps.NAMES)
def real(request: pytest.FixtureRequest) -> real_dumps.RealDump:
    """Each of the dumps of real kernels in turn."""
    return _real(request.param)


@pytest.fixture
def real_dump() -> Callable[[str], real_dumps.RealDump]:
    """A dump of a real kernel, by name."""
    return _real


def _real(name: str) -> real_dumps.RealDump:
    try:
        return real_dumps.get(name)
    except FileNotFoundError as error:
        missing(str(error))
        raise


@pytest.fixture
def peer() -> Callable[[str], str]:
    """The path of a program that is not part of phypan."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing(f"{name} is not installed")
            raise AssertionError
        return path

    return find


@dataclass
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def phypan_command() -> Callable[..., Finished]:
    """Run `phypan` with arguments, as a user does, in a process of its own."""

    def run(*arguments: object, **more: object) -> Finished:
        command = [sys.executable, "-m", "phypan", *(str(argument) for argument in arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder on a file system that knows holes in files."""
    return tmp_path


@pytest.fixture
def unprivileged() -> Callable[[Callable[[], str], Path], str]:
    """Call a function as a user who may do nothing special, in a folder; what it returns.

    Tests may run as root, who may read and write everything. The folder is where the function
    finds itself, for the way to it may be closed to that user.
    """

    def call(function: Callable[[], str], folder: Path) -> str:
        folder.chmod(0o755)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.chdir(folder)
                if os.getuid() == 0:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                text = function()
            except BaseException as error:  # noqa: BLE001 - it is told to the parent
                text = f"{type(error).__name__}: {error}"
            os.write(writer, text.encode())
            os._exit(0)
        os.close(writer)
        with open(reader) as pipe:
            text = pipe.read()
        os.waitpid(child, 0)
        return text

    return call


@dataclass(frozen=True)
class Vmcores:
    """Two files of one crash: phypan's, and the one that the second kernel built itself."""

    ours: Path
    kernels: Path


@pytest.fixture
def vmcores(tmp_path_factory: pytest.TempPathFactory) -> Callable[[real_dumps.RealDump], Vmcores]:
    """Both vmcores of a dump of a real kernel, made once for all workers of a run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

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
def crash(peer: Callable[[str], str], tmp_path: Path) -> Callable[..., dict[str, str]]:
    """What crash says to commands on a vmcore: it was built for one byte order or the other."""

    def run(real: real_dumps.RealDump, vmcore: Path, *commands: str) -> dict[str, str]:
        big = real.name.startswith("be")
        program = _program("bin/crash-ppc64be" if big else "bin/crash-ppc64")
        command = [*([peer("qemu-ppc64-static")] if big else []), str(program)]
        # No standard input: crash waits at a prompt when a command fails.
        run = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "cwd": tmp_path}
        if subprocess.run([*command, "--version"], check=False, **run).returncode:  # type: ignore[call-overload]
            missing("crash does not start: are its libraries installed?")
        script = tmp_path / "commands"
        lines = [f"{text} > {number}" for number, text in enumerate(commands)]
        script.write_text("\n".join([*lines, "quit", ""]))
        files = [str(script), str(real.vmlinux), str(vmcore)]
        done = subprocess.run([*command, "-s", "-i", *files], timeout=300, check=False, **run)  # type: ignore[call-overload]
        said = {text: (tmp_path / str(n)) for n, text in enumerate(commands)}
        answers = {text: path.read_text() for text, path in said.items() if path.exists()}
        return {"messages": done.stdout + done.stderr, **answers}

    return run


def _program(name: str) -> Path:
    try:
        return real_dumps.unpacked(name)
    except FileNotFoundError as error:
        missing(str(error))
        raise


@pytest.fixture
def libkdumpfile(peer: Callable[[str], str]) -> Callable[[str, object], str]:
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
