"""docs/how-to/write-a-plugin.md, done as it is written: files, commands, output."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests import strangers
from tests.test_docs import BLOCK, commands, matches

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "write-a-plugin.md"
NAMED = re.compile(r"`(phypan-where/[\w.]+)`:\s*\Z")


def run(command: str, folder: Path, python: Path) -> str:
    """What a command of the page prints, on both outputs."""
    if command.startswith("pip install "):
        strangers.pip_install(python, folder / command.removeprefix("pip install "))
        return ""
    assert command.startswith("phypan ")
    done = subprocess.run(
        f"{python} -m {command}", shell=True, cwd=folder, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.stdout.replace("python -m phypan", "phypan")


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """(folder, python, number of commands) of one who does what the page says."""
    folder = tmp_path_factory.mktemp("reader")
    python = strangers.environment(folder / "venv")
    ran = 0
    page = PAGE.read_text()
    for block in BLOCK.finditer(page):
        language, text = block.groups()
        named = NAMED.search(page[: block.start()])
        if language == "console":
            for command, expected in commands(text):
                printed = run(command, folder, python)
                assert matches(expected, printed), f"$ {command}\n{printed}"
                ran += 1
            continue
        assert named is not None, f"no file is named before\n{text}"
        file = folder / named[1]
        file.parent.mkdir(exist_ok=True)
        before = file.read_text() if file.exists() else ""
        file.write_text(f"{before}\n\n{text}" if before else text)
        if "that_is_not_there" not in text:
            (folder / "good" / file.name).parent.mkdir(exist_ok=True)
            (folder / "good" / file.name).write_text(file.read_text())
    return folder, python, ran


def test_everything_on_the_page_is_as_it_says(followed) -> None:
    _, _, ran = followed
    assert ran >= 9


def test_what_was_written_works_on_a_real_dump(followed, real) -> None:
    folder, python, _ = followed
    strangers.pip_install(python, folder / "good")
    printed = run(f"phypan born {real.path} -r csv", folder, python)
    assert re.search(r"^1,init,\d+\.\d+$", printed, re.MULTILINE)
    assert re.search(r"^\d+,phypan_alpha,\d+\.\d+$", printed, re.MULTILINE)
    printed = run(f"phypan where {real.path} -r csv --kernel-only", folder, python)
    assert "crash_fadump" in printed
