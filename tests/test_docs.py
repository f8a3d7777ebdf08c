"""What the documents show is what happens: sessions are run, Python is run, output is compared."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path: Path) -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return BLOCK.findall(path.read_text())


def matches(expected: str, actual: str) -> bool:
    """Equal but for "...", which stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, actual.strip(), re.DOTALL) is not None


def commands(session: str) -> Iterator[tuple[str, str]]:
    """(command, expected output) of a console session."""
    for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def run(command: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = command.replace("phypan ", f"{sys.executable} -m phypan ", 1)
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.stdout


def test_the_readme_tells_the_truth(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)
    ran = 0
    printed = None
    for language, text in blocks(ROOT / "README.md"):
        if language == "console":
            for command, expected in commands(text):
                actual = run(command, tmp_path)
                assert matches(expected, actual), f"$ {command}\n{actual}"
                ran += 1
        elif language == "python":
            output = io.StringIO()
            with redirect_stdout(output):
                exec(compile(text, "README.md", "exec"), vars(module))
            printed = output.getvalue()
            ran += 1
        elif language == "text":
            assert printed is not None
            assert matches(text, printed), printed
            ran += 1
    assert ran >= 6


def test_every_link_in_the_documents_leads_somewhere() -> None:
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path}: {target}"


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [("a ... c", "a b c", True), ("a", "b", False), ("a\n...\nd", "a\nb\nc\nd", True)],
)
def test_the_comparison_can_fail(expected, actual, same) -> None:
    assert matches(expected, actual) == same
