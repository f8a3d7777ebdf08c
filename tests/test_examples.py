"""The example scripts are run on real dumps, and print what they printed before.

`python tests/test_examples.py` writes what is compared with anew: look at what git says of it.
"""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from tests import real_dumps

pytest.importorskip("drgn")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
EXPECTED = EXAMPLES / "expected"
NOTEBOOK = EXAMPLES / "crash.ipynb"
RUNS = [  # script, dumps, further arguments
    *(("blocked_tasks", [name]) for name in ("le-hash8", "be-radix9")),
    *(("who_holds_mutex", [name, "cgroup_mutex"]) for name in ("le-radix10", "be-radix9")),
    ("compare_crashes", ["le-hash8", "le-radix10"]),
    ("compare_crashes", ["le-radix10", "be-radix9"]),
    *(("pages_by_owner", [name]) for name in ("le-hash8", "be-radix9")),
]
FURTHER = [  # a crash for which the question was thought of
    ("who_holds_mutex", ["6.12-le64k-hash-deadlock", "phypan_first"]),
    ("blocked_tasks", ["6.12-le64k-hash-deadlock"]),
    ("compare_crashes", ["6.12-le64k-hash-null", "6.12-le64k-hash-bug"]),
    ("pages_by_owner", ["6.12-le64k-hash-out-of-memory"]),
]


def _ids(runs: list[tuple[str, list[str]]]) -> list[str]:
    return [" ".join([script, *words]) for script, words in runs]


def dump_of(word: str) -> str:
    """An argument: the path of a dump, if it names one."""
    further = real_dumps.FURTHER / word
    if word in real_dumps.NAMES:
        return str(real_dumps.get(word).path)
    return str(further) if further.exists() else word


def printed(script: str, words: list[str]) -> str:
    command = [sys.executable, EXAMPLES / f"{script}.py", *map(dump_of, words)]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def expected(script: str, words: list[str]) -> Path:
    return EXPECTED / f"{script}.{'.'.join(words)}.txt"


@pytest.mark.parametrize(("script", "words"), RUNS, ids=_ids(RUNS))
def test_a_script_prints_what_it_did(real_dump, script, words) -> None:
    real_dump("le-hash8")  # or there are no dumps here
    assert printed(script, words) == expected(script, words).read_text()


@pytest.mark.parametrize(("script", "words"), FURTHER, ids=_ids(FURTHER))
def test_a_script_answers_about_the_crash_that_it_is_for(script, words) -> None:
    """Of dumps that are made anew, so that pids and pages differ: the facts that matter."""
    if not (real_dumps.FURTHER / words[0]).exists():
        pytest.skip(f"PHYPAN_FURTHER names no {words[0]}")
    out = printed(script, words)
    lines = out.splitlines()
    if script == "who_holds_mutex":
        assert lines[0] == "phypan_first+0x0/0x20 [phypan_crash] is held by"
        assert lines[1].split()[1] == "phypan_crash"
        waits = lines.index("waited for by")
        assert "    phypan_deadlock" in lines[:waits]
        assert lines[waits + 1].split()[1] == "phypan_other"
        assert "    phypan_other_side" in lines[waits:]
    elif script == "blocked_tasks":
        blocked = {line.split()[3] for line in lines if line.split()[1] == "D"}
        assert {line.split()[2] for line in lines if line.split()[1] == "D"} == {
            "__mutex_lock.constprop.0"
        }
        assert blocked == {"phypan_crash,"}
    elif script == "compare_crashes":
        assert lines[0] == "another crash"
        assert "     class: NULL dereference | BUG" in lines
    else:
        owner, use, pages, _ = lines[1].split(",")
        assert (owner, use) in {("user", "physical"), ("tail", "anonymous")}
        assert int(pages) > 15000


def test_scripts_are_short_and_use_phypan_and_drgn() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert {path.stem for path in scripts} == {script for script, _ in RUNS}
    for path in scripts:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        assert 20 <= len(lines) <= 40, path.name
        assert "import phypan" in lines
    code = [line for cell in _code(json.loads(NOTEBOOK.read_text())) for line in cell["source"]]
    assert 20 <= len([line for line in code if line.strip()]) <= 40


def test_each_file_with_expected_output_is_of_a_run() -> None:
    assert sorted(EXPECTED.iterdir()) == sorted(expected(*run) for run in RUNS)


# --- the notebook: its cells are run as Jupyter does, and their outputs are in it ---


def _code(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def outputs(notebook: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """What each cell of code gives: what it prints, and the value of its last expression."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(_code(notebook), 1):
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        stream = io.StringIO()
        with redirect_stdout(stream):
            exec(compile(tree, "cell", "exec"), names)
            code = ast.Expression(last.value) if isinstance(last, ast.Expr) else None
            value = None if code is None else eval(compile(code, "cell", "eval"), names)
        found: list[dict[str, Any]] = []
        if stream.getvalue():
            text = stream.getvalue().splitlines(keepends=True)
            found.append({"name": "stdout", "output_type": "stream", "text": text})
        if value is not None:
            data = {"text/plain": [repr(value)]}
            result = {"data": data, "execution_count": number, "metadata": {}}
            found.append({**result, "output_type": "execute_result"})
        yield found


def test_the_notebook_shows_what_it_shows(real_dump, monkeypatch) -> None:
    monkeypatch.setenv("DUMP", str(real_dump("le-hash8").path))
    notebook = json.loads(NOTEBOOK.read_text())
    assert list(outputs(notebook)) == [cell["outputs"] for cell in _code(notebook)]


def _write_anew() -> None:
    EXPECTED.mkdir(exist_ok=True)
    for script, words in RUNS:
        expected(script, words).write_text(printed(script, words))
    os.environ["DUMP"] = str(real_dumps.get("le-hash8").path)
    notebook = json.loads(NOTEBOOK.read_text())
    for cell, found in zip(_code(notebook), outputs(notebook), strict=True):
        cell["outputs"] = found
    NOTEBOOK.write_text(json.dumps(notebook, indent=1) + "\n")


if __name__ == "__main__":
    _write_anew()
