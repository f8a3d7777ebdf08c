"""Plugins of strangers, good and bad: modules and entry points made on the spot."""

from __future__ import annotations

import site
import subprocess
import sys
import types
import venv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from phypan import hookimpl
from phypan.hooks import Analysis, Renderer, Source, Writer


@dataclass(frozen=True)
class Row:
    """A row of a stranger's analysis."""

    number: int


def rows(dump, *, count: int = 1):
    """Count up.

    count  how far
    """
    return (Row(n) for n in range(count))


def nothing(*arguments: object, **options: object) -> None:
    """Do nothing."""


def source(name: str, probe: Callable[..., object] = lambda given: 0, open_=nothing) -> Source:
    """A source."""
    return Source(name, "a stranger's", probe, open_)


def writer(name: str) -> Writer:
    """A writer."""
    return Writer(name, "a stranger's", nothing)


def analysis(name: str) -> Analysis:
    """An analysis."""
    return Analysis(rows, Row, name=name)


def renderer(name: str) -> Renderer:
    """A renderer."""
    return Renderer(name, "a stranger's", nothing)


def module(**offers: object) -> types.ModuleType:
    """A plugin that offers `sources`, `writers`, ...: a list, or a function that makes one."""
    made = types.ModuleType("stranger")
    for kind, offer in offers.items():
        setattr(made, f"phypan_{kind}", hookimpl(_hook(f"phypan_{kind}", offer)))
    return made


def _hook(name: str, offer: object) -> Callable[[], object]:
    def hook() -> object:
        return offer() if callable(offer) else offer

    hook.__name__ = name
    return hook


class Point:
    """An entry point whose loading is `load`."""

    def __init__(self, name: str, load: Callable[[], object], origin: str = "strange 1.0") -> None:
        self.name, self.load = name, load
        self.dist = types.SimpleNamespace(
            name=origin.split(" ", maxsplit=1)[0], version=origin.rsplit(" ", maxsplit=1)[-1]
        )


def install(monkeypatch: pytest.MonkeyPatch, points: Iterable[Point]) -> None:
    """Have phypan find these entry points and no others."""
    found = tuple(points)
    monkeypatch.setattr("phypan.manager.entry_points", lambda group: found)


ROOT = Path(__file__).resolve().parent.parent


def environment(home: Path) -> Path:
    """Python of a virtual environment of its own; what phypan depends on is borrowed from here."""
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    print_folder = "import site; print(site.getsitepackages()[0])"
    packages = subprocess.check_output([python, "-c", print_folder], text=True).strip()
    borrowed = [*site.getsitepackages(), str(ROOT)]
    Path(packages, "borrowed.pth").write_text("".join(f"{path}\n" for path in borrowed))
    return python


def pip_install(python: Path, folder: Path) -> None:
    """`pip install FOLDER` there, without anything from the network."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    options = ["install", "--quiet", "--no-deps", "--no-build-isolation", str(folder)]
    subprocess.run([*pip, *options], check=True)
