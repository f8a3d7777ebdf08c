"""`phypan doctor`: a text for a bug report, with layouts and without contents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import phypan

SECRET = b"PHYPAN-SECRET-PASSWORD"


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A dump of the model in a folder whose name is nobody's business."""
    folder = tmp_path / "customer-name" / "case-4711"
    folder.parent.mkdir()
    phypan.simulate(folder, memory="1G", cpus=3, seed=5, fault=("cpu-lost",), message="my secret")
    return folder


def _section(text: str, name: str) -> str:
    found = re.search(rf"^\[{name}\]\n(.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def test_it_says_what_the_dump_is_made_of(crashed) -> None:
    text = phypan.doctor(crashed)
    assert _section(text, "phypan").startswith(f"phypan {phypan.__version__}\n")
    assert "ram: 1073741824 bytes" in _section(text, "input")
    assert "dump directory case-4711" in _section(text, "open")
    assert "CPU_STATE: source 0x0" in _section(text, "firmware")
    assert "NT_REGSAVE: " in _section(text, "firmware")
    assert "absent: " in _section(text, "memory")
    assert "OSRELEASE=" in _section(text, "kernel")
    assert "era: " in _section(text, "spaces")
    assert "symbols: " in _section(text, "debuginfo")
    assert "not in the register save area" in _section(text, "problems")


def test_it_has_no_contents_and_no_folders(crashed) -> None:
    with (crashed / "ram").open("r+b") as file:
        file.seek(900 << 20)
        file.write(SECRET)
    text = phypan.doctor(crashed)
    assert SECRET.decode() not in text
    assert "my secret" not in text
    assert "customer-name" not in text
    with phypan.open(crashed) as dump:
        for cpu in dump.cpus:
            for name, value in (cpu.firmware or {}).items():
                if value > 1 << 32:
                    assert f"{value:x}" not in text, name


def test_a_dump_that_does_not_open_is_told_of_too(crashed) -> None:
    (crashed / "boot2.dtb").write_bytes(b"\xd0\x0d\xfe\xed")
    (crashed / "console.log").unlink()
    text = phypan.doctor(crashed)
    assert "error: " in _section(text, "open")
    assert "boot2.dtb: 4 bytes" in _section(text, "input")


def test_the_beginning_of_a_file_is_named_and_not_shown(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"KDUMP   " + SECRET)
    (tmp_path / "b").write_bytes(SECRET)
    assert "begins as a kdump-compressed dump" in phypan.doctor(tmp_path / "a")
    text = phypan.doctor(tmp_path / "b")
    assert "begins with no signature" in text
    assert SECRET.decode() not in text
    assert SECRET.hex() not in text
    assert "not there" in phypan.doctor(tmp_path / "c")


def test_a_bug_becomes_part_of_the_report(crashed, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero\033[31m")

    monkeypatch.setattr("phypan.open", broken)
    text = phypan.doctor(crashed)
    assert "bug: ZeroDivisionError: by zero?[31m" in text
    assert "test_diagnosis.py" in text
    monkeypatch.undo()
    monkeypatch.setitem(phypan.diagnosis._SECTIONS, "cpus", broken)  # type: ignore[attr-defined]
    text = phypan.doctor(crashed)
    assert "bug: ZeroDivisionError" in _section(text, "cpus")
    assert "OSRELEASE=" in _section(text, "kernel"), "the rest is there"


def test_the_command_prints_it(crashed, phypan_command) -> None:
    done = phypan_command("doctor", crashed)
    assert (done.code, done.err) == (0, "")
    assert done.out == phypan.doctor(crashed)
