"""convert --virtual: gdb, drgn and readelf find vmalloc and vmemmap of a hashed kernel."""

from __future__ import annotations

import re
import subprocess

import pytest

import phypan
from phypan.memory import PageState
from tests.needs import missing

LINEAR_END = 0xC008000000000000


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """(the vmcore, 32 bytes at addresses outside of the linear map) of a dump, made once."""
    made = {}

    def convert(real):
        if real.name not in made:
            path = tmp_path_factory.mktemp("virtual") / "vmcore"
            with phypan.open(real.path) as dump:
                phypan.convert(dump, path, virtual=True)
                space, known = dump.spaces["kernel"], {}
                for one in space.mappings():
                    for at in (one.first, one.end - 32):
                        there = space.translate(at).state is PageState.PRESENT
                        if at >= LINEAR_END and there:
                            known[at] = space.read(at, 32)
            made[real.name] = path, known
        return made[real.name]

    return convert


def test_drgn_reads_what_it_cannot_translate(real, converted) -> None:
    try:
        import drgn
    except ImportError:
        missing("drgn is not installed")
    path, known = converted(real)
    assert {at >> 48 for at in known} == {0xC008, 0xC009, 0xC00C}
    assert any(any(data) for data in known.values())
    prog = drgn.Program()
    prog.set_core_dump(str(path))
    assert {at: prog.read(at, 32) for at in known} == known


def test_drgn_follows_pointers_into_vmalloc_and_vmemmap(real, converted) -> None:
    """Of a hashed kernel too: the areas of vmalloc, their pages, each area's own first word."""
    try:
        import drgn
    except ImportError:
        missing("drgn is not installed")
    from tests.real import kernel

    path, known = converted(real)
    prog = drgn.Program()
    prog.set_core_dump(str(path))
    prog.load_debug_info([str(real.vmlinux)])
    areas = list(kernel.areas(prog, 65536))
    assert len(areas) > 5
    pages = [at for at in known if at >> 48 == 0xC00C]
    for at in pages[:20]:
        page = drgn.Object(prog, "struct page", address=at & ~63)
        assert page.flags.value_() == int.from_bytes(prog.read(at & ~63, 8), _order(real))
    by_start = {area.start: area.pages for area in areas}
    assert any(at in by_start for at in known)


def _order(real) -> str:
    return "big" if real.name.startswith("be") else "little"


def test_gdb_reads_the_same(real, converted, peer) -> None:
    path, known = converted(real)
    commands = [part for at in known for part in ("-ex", f"x/4xg {at:#x}")]
    done = subprocess.run(
        [peer("gdb-multiarch"), "-batch", "-nx", "-ex", f"core-file {path}", *commands],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = re.findall(r"^(0x[0-9a-f]+):\t(\S+)\t(\S+)$", done.stdout, re.MULTILINE)
    said = {
        int(at, 16): b"".join(int(word, 16).to_bytes(8, _order(real)) for word in words)
        for at, *words in found
    }
    for at, data in known.items():
        assert said[at] + said[at + 16] == data


def test_segments_share_the_bytes_of_the_linear_ones(real, converted, peer) -> None:
    """The file is no larger, and p_paddr is ~0 so that nobody takes them for further memory."""
    path, known = converted(real)
    done = subprocess.run(
        [peer("readelf"), "-lW", path], capture_output=True, text=True, check=True
    )
    loads = [
        [int(word, 16) for word in line.split()[1:6]]
        for line in done.stdout.split("\n")
        if line.split()[:1] == ["LOAD"]
    ]
    linear = [row for row in loads if row[2] != (1 << 64) - 1]
    aliases = [row for row in loads if row[2] == (1 << 64) - 1]
    assert {row[1] >> 48 for row in aliases} <= {0xC008, 0xC009, 0xC00A, 0xC00C}
    assert all(any(row[1] <= at < row[1] + row[4] for row in aliases) for at in known)
    for offset, _, _, size, _ in aliases:
        assert any(row[0] <= offset and offset + size <= row[0] + row[3] for row in linear)
    with phypan.open(path) as again, phypan.open(real.path) as dump:
        assert list(again.memory.holes()) == list(dump.memory.holes())
        assert again.spaces.era == dump.spaces.era
