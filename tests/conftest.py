"""Fixtures: dumps of real kernels, peers, the command line; what is missing is skipped.

With PHYPAN_CI=1 nothing may be missing: a test that would be skipped for a peer or for the dumps of
real kernels fails.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import phypan
from tests import real_dumps, truth
from tests.needs import missing
from tests.peers import (  # noqa: F401 - fixtures
    crash,
    crash_says,
    libkdumpfile,
    makedumpfile,
    peer,
    qemu,
    vmcores,
)

settings.register_profile(
    "phypan", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("phypan")

# What most systems let a process have open, so that whoever leaves files open is seen everywhere.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, _soft), _hard))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make real` asks for the tests that boot kernels; nobody else waits for them."""
    parser.addoption("--boots", action="store_true", help="run the tests that boot real kernels")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what boots a kernel, unless it was asked for."""
    if config.getoption("--boots"):
        return
    chosen = [item for item in items if item.get_closest_marker("boots") is None]
    left_out = [item for item in items if item.get_closest_marker("boots") is not None]
    config.hook.pytest_deselected(items=left_out)
    items[:] = chosen


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


@pytest.fixture
def truth_of() -> Callable[[phypan.Dump], truth.Truth]:
    """What the guest of a dump said of itself, and what its kernel printed."""
    return lambda dump: truth.read(Path(dump.source.removeprefix("dump directory ")))


_DEBUGGED = [(path, file) for path in real_dumps.further() if (file := real_dumps.debuginfo(path))]


@pytest.fixture(
    scope="session",
    params=[*real_dumps.NAMES, *real_dumps.further(), *_DEBUGGED],
    ids=lambda param: (
        f"{param[0].name}, debuginfo" if isinstance(param, tuple) else getattr(param, "name", param)
    ),
)
def kernel(request: pytest.FixtureRequest) -> Iterator[phypan.Dump]:
    """Each dump of a real kernel, open, by what is in it alone. To be read only.

    With PHYPAN_FURTHER those of further kernels too: other versions, page sizes, kinds of crash.
    Kernels that have no types come a second time, with their vmlinux.
    """
    given = request.param
    path, *files = given if isinstance(given, tuple) else [given]
    path = path if isinstance(path, Path) else _real(path).path
    with phypan.open(path, symbols=files) as dump:
        yield dump
