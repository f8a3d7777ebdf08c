"""Addresses of further real kernels: 4K and 64K pages, hash and radix, modules, other releases."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

import phypan
from phypan.spaces.audit import Finding
from tests.real_dumps import FURTHER


def test_the_era_is_found_without_doubt(kernel) -> None:
    mmu = "hash" if "hash" in Path(kernel.source.split()[-1]).name else "radix"
    assert kernel.spaces.era.mmu == mmu
    assert 1 << kernel.spaces.era.page_shift == kernel.page_size
    assert not [problem for problem in kernel.problems if problem.where == "page tables"]


def test_the_hashed_page_table_agrees_with_the_page_tables(kernel) -> None:
    """Every valid entry of the kernel's, in every region."""
    spaces = kernel.spaces
    if "hpt" not in spaces:
        return
    pages = [page for page in spaces.hash_table.pages(spaces.scheme) if page.context == 0]
    inside = [page.address + 0x321 for page in pages]
    expected = [page.entry.real + 0x321 for page in pages]
    assert spaces["hpt"].translate_many(inside).physical.tolist() == expected
    assert spaces["kernel"].translate_many(inside).physical.tolist() == expected
    found: list[Finding] = list(spaces.audit())
    assert found == []
    regions = Counter(spaces.era.region_of(page.address).name for page in pages)
    assert {"linear", "vmemmap", "vmalloc"} <= set(regions)


def _module_files(dump: phypan.Dump) -> dict[str, Path]:
    """The modules that the guest may have loaded, by name."""
    told = Path(dump.source.split()[-1]) / "cell.json"
    if not told.exists():
        return {}
    cell = json.loads(told.read_text())["cell"]
    pieces = FURTHER.parent / "pieces"
    return {
        path.stem.replace("-", "_"): path
        for folder in (f"{cell['kernel']}-module", f"{cell['kernel']}/modules")
        for path in (pieces / folder).glob("*.ko")
    }


def _unrelocated(path: Path, order: str) -> dict[str, list[tuple[int, bytes]]]:
    """Pieces of each section with code that no relocation touches: (offset, bytes)."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.relocation import RelocationSection

    with path.open("rb") as file:
        elf = ELFFile(file)
        relocated: dict[int, set[int]] = {}
        for section in elf.iter_sections():
            if isinstance(section, RelocationSection):
                words = {r["r_offset"] & ~7 for r in section.iter_relocations()}
                relocated.setdefault(section["sh_info"], set()).update(words)
        found = {}
        for index, section in enumerate(elf.iter_sections()):
            if section["sh_flags"] & 6 != 6 or section.name.startswith(".init"):
                continue
            data, touched = section.data(), relocated.get(index, set())
            places = range(0, len(data) & ~7, 8)
            found[section.name] = [
                (at, data[at : at + 8]) for at in places if not {at, at - 8} & touched
            ]
        return found


def test_the_text_of_modules_is_that_of_their_files(kernel) -> None:
    """Where relocations did not touch it, nor the kernel's own patches: those are few words."""
    if kernel.types is None:
        return
    files, space, checked = _module_files(kernel), kernel.spaces["kernel"], 0
    if not files:
        pytest.skip("the files of its modules are not here")
    for row in phypan.run(kernel, "modules"):
        if row.name not in files:
            continue
        assert kernel.spaces.era.region_of(row.base).name == "vmalloc"
        pieces = _unrelocated(files[row.name], kernel.byte_order)[".text"]
        same = sum(space.read(row.base + at, 8) == data for at, data in pieces)
        assert same > 0.95 * len(pieces), row.name  # the kernel patches some
        checked += same
    assert checked > 20
