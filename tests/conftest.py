"""Fixtures: dumps of real kernels, peers, the command line; what is missing is skipped.

With PHYPAN_CI=1 nothing may be missing: a test that would be skipped for a peer or for the dumps of
real kernels fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import real_dumps

settings.register_profile(
    "phypan", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("phypan")
IN_CI = os.environ.get("PHYPAN_CI") == "1"


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
