"""A capture by the Python of Debian for ppc64el, which has neither numpy nor numba.

The model is mounted by this process's Python; capture meets it through system calls only.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import phypan
from tests import mounting, real_dumps
from tests.needs import missing
from tests.peers import program

CODE = Path(phypan.__file__).parents[1]


@pytest.fixture(scope="module")
def python() -> str:
    """Its path."""
    if platform.machine() == "ppc64le":
        return sys.executable
    pieces = real_dumps.CACHE.parent / "real-kernels" / "pieces"
    path = pieces / "python-ppc64le" / "python3"
    if not path.exists():
        missing(f"no {path}: scripts/real/get.py python-ppc64le puts it there")
    program("qemu-ppc64le-static")
    return str(path)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with what an installation knows of phypan: its version is in the file."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "phypan.dist-info").mkdir()
    told = f"Metadata-Version: 2.1\nName: phypan\nVersion: {metadata.version('phypan')}\n"
    (folder / "phypan.dist-info" / "METADATA").write_text(told)
    return folder


def run(python: str, *words: str, path: Path = CODE) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{CODE}:{path}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.skipif(platform.machine() == "ppc64le", reason="this is that Python")
def test_it_is_what_it_says(python) -> None:
    look = "import importlib.util as u, platform as p;"
    look += (
        "print(p.machine(), *(name for name in ('numpy', 'numba', 'drgn') if u.find_spec(name)))"
    )
    assert run(python, "-c", look).split() == ["ppc64le"]


@pytest.mark.parametrize(
    ("kernel", "letters", "more"),
    # of other codecs than none the library may be another one there
    [("2.6.32", [], []), ("2.6.32", ["-d", "0"], []), ("5.10", [], ["--release"])],
)
def test_it_saves_the_same_bytes_and_gives_all_memory_back(
    python, installed, tmp_path, kernel, letters, more
) -> None:
    memory = ("--memory", "640M", "--boot-memory", "128M")
    with mounting.mounted(tmp_path / "m", "--kernel", kernel, *memory) as root:
        here, there = tmp_path / "here", tmp_path / "there"
        words = ("-m", "phypan", "capture", "--root", str(root), *letters)
        run(sys.executable, *words, str(here), "--no-release")
        assert mounting.state(root)["released"] == []
        run(python, *words, str(there), *more, path=installed)
        assert sha256(here) == sha256(there)
        assert mounting.state(root)["registered_anew"] == 1
        assert not mounting.state(root)["dump_waiting"]
