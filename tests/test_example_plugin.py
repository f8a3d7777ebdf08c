"""A stranger's plugin is installed into an environment of its own, and all it adds is used."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import phypan
from tests import strangers

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "examples" / "plugin"


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """`phypan` where the plugin is installed; what it depends on is borrowed from here."""
    home = tmp_path_factory.mktemp("stranger")
    python = strangers.environment(home)
    shutil.copytree(PLUGIN, home / "plugin")
    strangers.pip_install(python, home / "plugin")

    def run(*arguments: object) -> str:
        words = [str(python), "-m", "phypan", *map(str, arguments)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=home)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def crashed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dump") / "crashed"
    phypan.simulate(folder, memory="160M", boot_memory="16M", cpus=3, byte_order="big")
    return folder


def test_it_is_listed(command) -> None:
    listed = command("plugins")
    for offer in ("source gzip", "analysis where", "analysis born", "writer map", "renderer lines"):
        assert f"    {offer}\n" in listed
    assert "example (phypan-example 1.0)" in listed


def test_its_analysis_is_a_command_with_its_options(command, crashed) -> None:
    table = command("where", crashed)
    assert table.split("\n")[0].split() == ["CPU", "NIP", "USER"]
    assert len(table.strip().split("\n")) == 4
    assert "--kernel-only" in command("where", "--help")
    assert "leave out those that ran a process" in command("where", "--help")


def test_its_analysis_of_the_kernels_structures_tells_the_truth(command, real) -> None:
    rows = json.loads(command("born", real.path, "-r", "json"))["rows"]
    born = {row["pid"]: row for row in rows}
    assert [row["born"] for row in rows] == sorted(row["born"] for row in rows)
    assert {"init", "phypan_alpha", "phypan_bravo", "phypan_charlie", "phypan_busy"} <= {
        row["comm"] for row in rows
    }
    assert rows[0]["pid"] == 1
    assert all(row["born"] >= born[row["parent"]]["born"] for row in rows[1:])
    every = json.loads(command("born", real.path, "--threads", "-r", "json"))["rows"]
    assert len(every) > len(rows) + 20


def test_its_analysis_says_what_it_lacks(command, crashed) -> None:
    with pytest.raises(AssertionError, match="born needs types: the kernel carries no BTF"):
        command("born", crashed)


def test_its_renderer_shows_its_rows(command, crashed) -> None:
    lines = command("where", crashed, "-r", "lines", "--kernel-only").strip().split("\n")
    assert lines[1] == f"cpu=1 nip={0xC000000000020004} user=False"


def test_its_writer_writes(command, crashed, tmp_path) -> None:
    command("convert", crashed, tmp_path / "map", "--format", "map", "--sizes")
    lines = (tmp_path / "map").read_text().split("\n")
    assert lines[0] == "0x0000000000000000-0x0000000000ffffff 0x1000000"


def test_its_source_opens_what_is_inside(command, crashed, tmp_path) -> None:
    """An envelope: gzip outside, an ELF core inside, and nobody told phypan of either."""
    with phypan.open(crashed) as dump:
        phypan.convert(dump, tmp_path / "vmcore")
    (tmp_path / "vmcore.gz").write_bytes(gzip.compress((tmp_path / "vmcore").read_bytes(), 1))
    assert "CPU 2" in command("info", tmp_path / "vmcore.gz")


@pytest.mark.skipif(sys.platform != "linux", reason="a path of Linux")
def test_it_is_not_there_without_being_installed(phypan_command) -> None:
    assert "gzip" not in phypan_command("plugins").out
