"""Fixtures: dumps of real kernels, peers, the command line; what is missing is skipped.

With PHYPAN_CI=1 nothing may be missing: a test that would be skipped for a peer or for the dumps of
real kernels fails.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import phypan
from tests import real_dumps, truth

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


@pytest.fixture(
    scope="session",
    params=[(name, by) for name in real_dumps.NAMES for by in ("dump", "vmlinux")],
    ids=lambda param: f"{param[0]}, symbols of the {param[1]}",
)
def opened(request: pytest.FixtureRequest) -> Iterator[phypan.Dump]:
    """Each real dump, open: by the symbols and types in it alone, and by DWARF. To be read only."""
    name, by = request.param
    real = _real(name)
    with phypan.open(real.path, symbols=[real.vmlinux] if by == "vmlinux" else []) as dump:
        yield dump


@pytest.fixture
def real_of() -> Callable[[phypan.Dump], real_dumps.RealDump]:
    """What else is known of an `opened` dump."""
    return lambda dump: _real(Path(dump.source.split()[-1]).name)


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
def truth_of() -> Callable[[phypan.Dump], truth.Truth]:
    """What the guest of a dump said of itself, and what its kernel printed."""
    return lambda dump: truth.read(Path(dump.source.removeprefix("dump directory ")))


@pytest.fixture(
    scope="session",
    params=real_dumps.further() or [None],
    ids=lambda path: getattr(path, "name", "none"),
)
def kernel(request: pytest.FixtureRequest) -> Iterator[phypan.Dump]:
    """Each dump of a further real kernel, open: other versions, page sizes, kinds of crash.

    They are made on purpose, not for every run, and may be missing in CI.
    """
    if request.param is None:
        pytest.skip(f"no dumps of further kernels in {real_dumps.FURTHER}")
    with phypan.open(request.param) as dump:
        yield dump


CRASH_COMMANDS = (
    *("sys", "ps", "bt -a", "log", "mod", "kmem -i", "mount", "runq", "irq", "timer"),
)


@pytest.fixture(scope="session")
def crash() -> Callable[[real_dumps.RealDump, str], str]:
    """What crash prints for one of CRASH_COMMANDS. It is started once for each dump."""

    @functools.cache
    def answers(real: real_dumps.RealDump) -> dict[str, str]:
        words = [str(real_dumps.unpacked("bin/crash-ppc64"))]
        if real.name.startswith("be"):
            emulator = shutil.which("qemu-ppc64-static")
            if emulator is None:
                missing("qemu-ppc64-static is not installed")
            words = [str(emulator), str(real_dumps.unpacked("bin/crash-ppc64be"))]
        with tempfile.TemporaryDirectory() as folder:
            lines = [f"{command} > {folder}/{n}" for n, command in enumerate(CRASH_COMMANDS)]
            script = Path(folder, "commands")
            script.write_text("\n".join([*lines, "quit", ""]))
            words += ["-s", "-i", str(script), str(real.vmlinux), str(real.vmcore)]
            subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
            return {
                command: Path(folder, str(n)).read_text(errors="replace")
                for n, command in enumerate(CRASH_COMMANDS)
            }

    return lambda real, command: answers(real)[command]
