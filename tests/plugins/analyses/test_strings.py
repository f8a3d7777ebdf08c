"""strings: what GNU strings finds in the same memory."""

from __future__ import annotations

import re
import subprocess

import pytest

import phypan

LETTERS = {"ascii": "s", "utf-16le": "l", "utf-16be": "b"}


def rows(dump: phypan.Dump, **options) -> list:
    return list(phypan.run(dump, "strings", **options))


@pytest.mark.parametrize("encoding", LETTERS)
def test_it_is_what_gnu_strings_finds(real, peer, tmp_path, encoding) -> None:
    start, size = 0x600000, 8 << 20
    with phypan.open(real.path) as dump:
        found = rows(dump, start="600000", end=f"{start + size:x}", encoding=encoding, length=6)
        (tmp_path / "part").write_bytes(dump.memory.read(start, size))
    command = [peer("strings"), "-n", "6", "-t", "x", "-e", LETTERS[encoding], tmp_path / "part"]
    said = subprocess.run(command, capture_output=True, check=True).stdout
    theirs = re.findall(rb"^ *([0-9a-f]+) (.*)$", said, re.MULTILINE)
    ours = [(b"%x" % (row.address - start), row.text.encode()) for row in found]
    if encoding == "ascii":
        assert ours == theirs
        assert len(ours) > 1000
    else:  # it does not look at all characters again where text begins at an odd place
        assert set(theirs) <= set(ours)
        assert all(len(text) >= 6 for _, text in ours)


def test_text_of_a_process(opened) -> None:
    """The arguments and the environment of phypan_alpha, where the process had them."""
    from phypan.linux import tasks

    task = next(task for task in tasks.each(opened) if task.comm == "phypan_alpha")
    mm = task.task.mm
    start, end = int(mm.arg_start), int(mm.env_end)
    found = rows(opened, pid=task.pid, start=f"{start:#x}", end=f"{end:#x}", length=4)
    texts = [row.text for row in found]
    assert {"/bin/phypan_alpha", "PATH=/bin"} <= set(texts)
    assert all(start <= row.address < end for row in found)


def test_text_by_the_kernels_addresses(opened) -> None:
    banner = opened.symbols.address("linux_banner")
    (row,) = rows(opened, space="kernel", start="linux_banner", end=f"{banner + 64:x}")
    assert row.address == banner
    assert row.text == opened.kernel.banner.decode()[:64]


def test_the_limit_is_said(real) -> None:
    with phypan.open(real.path) as dump:
        assert len(rows(dump, limit=5)) == 5
        assert dump.problems[-1].what == "there are more than 5 rows"


@pytest.mark.parametrize("length", [0, -4, 3, 5000])
def test_a_wild_length_is_refused(opened, length) -> None:
    with pytest.raises(phypan.Unsupported):
        rows(opened, length=length)
