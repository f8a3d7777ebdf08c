"""The guest's account of its memory: phypan's reader finds what the guest knows of each page."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

import phypan
from phypan import Hole, PageTypes, page_type
from phypan.filtering import zones
from phypan.platform import memory_map, simulation
from phypan.platform.guest import Guest

GUESTS = [
    {"kernel": kernel, "byte_order": order, "page_size": size, "mmu": mmu}
    for kernel, order, size, mmu in itertools.product(
        ("5.10", "6.12"), ("little", "big"), (4096, 65536), ("hash", "radix")
    )
] + [{"kernel": "2.6.32", "page_size": size, "memory": "1G"} for size in (4096, 65536)]
SMALL = {"memory": "512M", "boot_memory": "64M"}


def crashed(folder: Path, **chosen: object) -> Guest:
    """A guest that died, and `folder` with what its second boot found."""
    done = phypan.simulate(**{**SMALL, **chosen})
    simulation.save(done, folder, {})
    return done.boot.guest


def truth(guest: Guest) -> list[str]:
    """What the guest uses each of its pages for."""
    names = ["free"] * guest.memory_map.frames
    for use in guest.memory_map.uses:
        names[use.first : use.first + use.count] = [use.kind] * use.count
    return names


@pytest.mark.parametrize("chosen", GUESTS, ids=lambda chosen: "-".join(map(str, chosen.values())))
def test_each_page_is_found_to_be_what_it_is(chosen, tmp_path) -> None:
    guest = crashed(tmp_path / "crashed", **chosen)
    expected = truth(guest)
    assert len(set(expected)) == (6 if guest.kernel.mechanism == "phyp" else 9), "all kinds"
    if guest.kernel.mechanism == "phyp":  # that kernel tells nobody of slabs
        expected = ["kernel" if name == "slab" else name for name in expected]
    with phypan.open(tmp_path / "crashed") as dump:
        types = PageTypes(dump)
        found = ["missing"] * len(expected)
        for first, codes in types:
            names = [page_type(code).name for code in codes]
            found[first : first + len(names)] = names
        assert found[: len(expected)] == expected
        known = ["PG_head_mask"] if guest.kernel.mechanism == "phyp" else []
        assert [problem.what.split()[0] for problem in types.problems] == known
        rows = list(phypan.run(dump, "pages"))
        counted: Counter[str] = Counter()
        for row in rows:
            counted[row.type] += row.pages
        assert counted == Counter(expected)


@pytest.mark.parametrize("chosen", GUESTS, ids=lambda chosen: "-".join(map(str, chosen.values())))
def test_free_pages_are_in_the_lists_once_and_are_counted(chosen, tmp_path) -> None:
    guest = crashed(tmp_path / "crashed", **chosen)
    with phypan.open(tmp_path / "crashed") as dump:
        info, kernel = dump.vmcoreinfo, dump.spaces["kernel"]
        types = PageTypes(dump)
        first = types.struct_page(0)[0]
        listed: Counter[int] = Counter()
        problems: list[phypan.Problem] = []
        for address, order in zones.free_blocks(dump, problems):
            frame = (address - first) // info.size("page")
            assert frame % (1 << order) == 0
            listed.update(range(frame, frame + (1 << order)))
        assert problems == []
        assert listed == Counter(n for n, name in enumerate(truth(guest)) if name == "free")
        (node,) = zones.nodes(dump)
        place = node.zones[0].address + info.offset("zone.vm_stat")
        assert int.from_bytes(kernel.read(place, 8), dump.byte_order) == listed.total()


def test_memory_that_was_never_taken_into_use_stays_in_the_dump(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(memory_map, "MOST_PAGES", 4096)
    guest = crashed(tmp_path / "crashed")
    assert guest.memory_map.frames == 4096
    with phypan.open(tmp_path / "crashed") as dump:
        types = PageTypes(dump)
        assert page_type(types[4095]).name != "unknown"
        assert page_type(types[4096]).name == "unknown"
        phypan.convert(dump, tmp_path / "vmcore", dump_level=31)
    with phypan.open(tmp_path / "vmcore") as dump:
        pieces = dump.memory.pieces(4096 << 16, 512 << 20)
        assert not any(isinstance(piece, Hole) for piece in pieces)


def test_too_little_memory_for_a_map_is_told() -> None:
    with pytest.raises(phypan.PhypanError, match="no room for"):
        phypan.simulate(memory="20M", boot_memory="9M", page_size=4096)
