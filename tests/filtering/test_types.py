"""What pages are used for: kernels of several eras, every way to their struct pages, bad input."""

from __future__ import annotations

import pytest

import phypan
from phypan import Hole, PageState, PageTypes, Unsupported, page_type
from phypan.filtering.levels import filtered
from phypan.kernels import modes
from tests.made_kernel import (
    ANON,
    ERAS,
    FILE,
    HWPOISON,
    LRU,
    PRIVATE,
    SLAB,
    SWAPBACKED,
    SWAPCACHE,
    MadeKernel,
)

MODES = ["numba", "numpy", "plain"]


@pytest.fixture(params=MODES)
def mode(request, monkeypatch) -> str:
    pytest.importorskip("numba")
    monkeypatch.setenv(modes.VARIABLE, request.param)
    return request.param


def populated(era: str, order: str = "big", **more) -> tuple[MadeKernel, dict[int, str]]:
    """A kernel with pages of all types, and the types: page frame number -> name."""
    kernel = MadeKernel(ERAS[era], order, **more)
    expected = {}

    def expect(frame: int, count: int, name: str) -> None:
        expected.update(dict.fromkeys(range(frame, frame + count), name))

    kernel.free(64, 3)
    expect(64, 8, "free")
    kernel.free(80, 0)
    expect(80, 1, "free")
    kernel.free(128, 7)
    expect(128, 128, "free")
    kernel.put(30, flags=LRU, mapping=FILE)
    expect(30, 1, "cache")
    kernel.put(31, flags=LRU | PRIVATE, mapping=FILE)
    expect(31, 1, "private cache")
    kernel.put(32, flags=LRU | SWAPBACKED, mapping=ANON)
    expect(32, 1, "user")
    kernel.put(33, flags=LRU, mapping=ANON | 2)  # KSM
    expect(33, 1, "user")
    kernel.put(34, flags=SWAPCACHE | SWAPBACKED, mapping=ANON)
    expect(34, 1, "user")
    kernel.put(35, flags=SWAPCACHE | SWAPBACKED)
    expect(35, 1, "cache")
    # before 4.10 the bit counts by itself; since then it is another flag's without SWAPBACKED
    kernel.put(36, flags=SWAPCACHE)
    expect(36, 1, "cache" if era == "2.6.26" else "kernel")
    if era != "2.6.26":
        _populate_more(kernel, expect)
    return kernel, expected


def _populate_more(kernel: MadeKernel, expect) -> None:
    era = kernel.era
    kernel.compound(40, 2, flags=LRU | SWAPBACKED, mapping=ANON)  # a transparent huge page
    expect(40, 4, "user")
    kernel.compound(48, 3, flags=LRU, mapping=FILE)
    expect(48, 8, "cache")
    kernel.compound(256, 5, hugetlb=True)
    expect(256, 32, "hugetlb")
    kernel.compound(56, 1)
    expect(56, 2, "kernel")
    if "slab" in era.types:
        kernel.compound(60, 2, _mapcount=era.types["slab"] + 7, mapping=ANON)
    else:
        kernel.compound(60, 2, flags=SLAB, mapping=ANON)
    expect(60, 4, "slab")
    if "offline" in era.types:
        kernel.put(90, _mapcount=era.types["offline"])
        expect(90, 1, "offline")
    kernel.put(91, flags=HWPOISON)
    kernel.put(92, flags=HWPOISON | LRU, mapping=ANON)
    kernel.put(130, flags=HWPOISON)  # in the middle of a free block
    for frame in (91, 92, 130):
        expect(frame, 1, "poisoned")


def types_of(dump) -> tuple[dict[int, str], PageTypes]:
    types = PageTypes(dump)
    found = {}
    for first, codes in types:
        found.update({first + n: page_type(code).name for n, code in enumerate(codes)})
    return found, types


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("order", ["big", "little"])
def test_every_era(mode: str, era: str, order: str) -> None:
    kernel, expected = populated(era, order)
    found, types = types_of(kernel.dump())
    assert set(found) == set(range(kernel.frames))
    assert {n: name for n, name in found.items() if name != "kernel"} == {
        n: name for n, name in expected.items() if name != "kernel"
    }
    known = {"2.6.26": ["PG_head_mask"]}.get(era, [])
    assert [problem.what.split()[0] for problem in types.problems] == known


@pytest.mark.parametrize("model", ["sparse", "extreme", "flat", "nodes"])
@pytest.mark.parametrize("vmemmap", [True, False])
def test_every_way_to_the_struct_pages(model: str, vmemmap: bool) -> None:
    kernel, expected = populated("5.10", model=model, vmemmap=vmemmap)
    found, types = types_of(kernel.dump())
    assert types.problems == []
    assert set(found) == set(range(kernel.frames))
    assert all(found[n] == name for n, name in expected.items())
    assert types[64 + 7] == types[64]
    address, data = types.struct_page(64) or (0, b"")
    assert address == kernel.address(64)
    assert data == kernel.data[kernel.place(64) : kernel.place(65)]


def test_one_page_is_asked_for(mode: str) -> None:
    kernel, expected = populated("6.12")
    types = PageTypes(kernel.dump())
    for frame in (64, 71, 72, 130, 255, 256, 287, 288):
        assert page_type(types[frame]).name == expected.get(frame, "kernel")
    assert page_type(types[1 << 40]).name == "unknown"


@pytest.mark.parametrize(
    ("missing", "lost"),
    [
        ("NUMBER(PG_lru)", {"cache", "private cache"}),
        ("NUMBER(PG_private)", {"cache", "private cache"}),
        ("OFFSET(page.mapping)", {"cache", "private cache", "user"}),
        ("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE) OFFSET(zone.free_area)", {"free"}),
        ("OFFSET(page.private) OFFSET(page.lru)", {"free"}),
        ("LENGTH(zone.free_area)", {"free"}),
        ("NUMBER(PG_head_mask)", {"hugetlb"}),
        ("NUMBER(HUGETLB_PAGE_DTOR)", {"hugetlb"}),
        ("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", {"offline"}),
        ("NUMBER(PG_hwpoison)", {"poisoned"}),
    ],
)
def test_what_the_kernel_does_not_tell_is_left_in_the_dump(missing: str, lost: set[str]) -> None:
    kernel, expected = populated("5.10")
    found, types = types_of(kernel.dump(missing=tuple(missing.split())))
    for frame, name in expected.items():
        if name not in lost:
            tail = frame % 2 or frame not in (40, 48, 256)
            assert found[frame] == name or (tail and "hugetlb" in lost)
        elif name == "poisoned":
            assert found[frame] in ("kernel", "user", "free")
        else:
            assert found[frame] not in lost, f"{name} cannot be told"
    quiet = lost & {"offline", "poisoned"}  # kernels without such pages say nothing of them
    assert bool(types.problems) is not bool(quiet)


@pytest.mark.parametrize("missing", ["NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", "OFFSET(page.private)"])
def test_free_lists_tell_what_struct_page_does_not(missing: str) -> None:
    kernel, expected = populated("5.10")
    found, types = types_of(kernel.dump(missing=(missing,)))
    assert all(found[frame] == name for frame, name in expected.items() if name == "free")
    assert types.problems == []


@pytest.mark.parametrize("level", range(32))
def test_every_dump_level_leaves_out_its_types(level: int) -> None:
    kernel, expected = populated("5.10")
    dump = kernel.dump()
    result = filtered(dump, level)
    bits = {"cache": 6, "private cache": 4, "user": 8, "hugetlb": 8, "free": 16}
    always = {"poisoned", "offline"} if level & 30 else set()
    gone = {n for n, name in expected.items() if bits.get(name, 0) & level or name in always}
    memory, size = result.dump.memory, dump.page_size
    for frame in range(kernel.frames):
        piece = memory.at(frame * size)
        assert isinstance(piece, Hole) is (frame in gone), frame
        if frame in gone:
            assert piece.state is PageState.EXCLUDED
            assert piece.why == f"{expected[frame]} page, left out by dump level {level}"
    assert sum(result.counts.values()) == len(gone)
    assert result.dump.dump_level == level
    assert dump.memory.size == kernel.frames * size, "the dump itself stays what it was"


def test_short_runs_stay_where_a_format_wants_that() -> None:
    kernel, _ = populated("5.10")
    memory = filtered(kernel.dump(), 31, shortest=20).dump.memory
    holes = [(h.start // 65536, h.end // 65536) for h in memory.holes()]
    gone = {n for first, last in holes for n in range(first, last)}
    assert gone == {*range(128, 288)}, "128 free pages and 32 of hugetlb are neighbours"


def test_a_filtered_dump_is_filtered_further(tmp_path) -> None:
    kernel, expected = populated("5.10")
    once = filtered(kernel.dump(), 16).dump
    once._spaces = kernel.dump()._spaces
    twice = filtered(once, 8).dump
    assert twice.dump_level == 24
    names = {name for n, name in expected.items() if isinstance(twice.memory.at(n * 65536), Hole)}
    assert names == {"free", "user", "hugetlb", "poisoned", "offline"}
    assert "level 16" in twice.memory.at(64 * 65536).why


def test_a_level_that_does_not_exist() -> None:
    for level in (-1, 32):
        with pytest.raises(Unsupported):
            filtered(MadeKernel(ERAS["6.12"]).dump(), level)


def test_without_struct_pages_nothing_is_left_out() -> None:
    kernel, _ = populated("5.10")
    for missing in ("SIZE(page)", "OFFSET(page.flags)", "SYMBOL(mem_section)"):
        dump = kernel.dump(missing=(missing,))
        result = filtered(dump, 31)
        assert result.dump.memory.size == dump.memory.size
        assert any("nothing is left out" in problem.meaning for problem in dump.problems)
        assert result.dump.dump_level == 1


def test_struct_pages_that_cannot_be_read_leave_their_pages_in_the_dump(mode: str) -> None:
    kernel, expected = populated("6.12")
    dump = kernel.dump()
    space = dump._spaces["kernel"]
    real = space.read

    def read(address: int, size: int) -> bytes:
        first, last = kernel.address(60), kernel.address(100)
        if address < last and address + size > first:
            raise phypan.NotInDump(0x1234, "excluded", "it was left out")
        return real(address, size)

    space.read = read
    found, types = types_of(dump)
    assert {n for n, name in found.items() if name == "unknown"} == set(range(60, 100))
    assert all(found[n] == name for n, name in expected.items() if not 56 <= n < 100)
    assert "40 pages" in types.problems[0].what


def test_a_free_list_that_is_broken_ends_there() -> None:
    kernel, _ = populated("2.6.26")
    kernel.free(512, 2)
    kernel.free(520, 2)  # the first of its list
    at = kernel.place(520) + 40
    for broken in (0, 0xC000000000000010, kernel.address(520) + 40):
        kernel.word(at, broken)
        found, types = types_of(kernel.dump())
        assert found[520] == found[523] == "free"
        assert found[512] == "kernel"
        assert any("free list" in problem.where for problem in types.problems)


def test_free_blocks_of_an_impossible_order_are_not_free() -> None:
    kernel = MadeKernel(ERAS["6.12"])
    for frame, order in ((16, 9), (32, 1 << 40), (64, -1)):
        kernel.free(frame, order)
    kernel.free(128, 8)
    found, _ = types_of(kernel.dump())
    assert {n for n, name in found.items() if name == "free"} == set(range(128, 384))


def test_the_census_counts_all_pages() -> None:
    kernel, expected = populated("5.10")
    rows = list(phypan.run(kernel.dump(), "pages"))
    assert sum(row.pages for row in rows) == kernel.frames
    assert {(row.node, row.zone) for row in rows} == {(0, 0), (0, 2)}
    assert all(row.in_dump == row.pages for row in rows)
    for name in set(expected.values()) - {"kernel"}:
        count = sum(row.pages for row in rows if row.type == name)
        assert count == list(expected.values()).count(name), name
    level = {row.type: row.level for row in rows}
    assert (level["cache"], level["private cache"], level["user"], level["free"]) == (6, 4, 8, 16)


def test_a_page_is_explained() -> None:
    kernel, _ = populated("5.10")
    cases = (
        (30, "cache", "2 (cache) and 4 (private cache)"),
        (64, "free", "16 (free)"),
        (91, "poisoned", "every dump level but 0 and 1"),
    )
    for frame, type_, levels in cases:
        found = phypan.run(kernel.dump(), "explain", address=frame * 65536 + 5)
        rows = {row.what: row.value for row in found}
        assert rows["page frame"].startswith(f"{frame:#x},")
        assert rows["state"] == "present"
        assert rows["type"] == type_
        assert rows["left out by"] == levels
        assert rows["struct page"].startswith(f"{kernel.address(frame):#x}: ")
    result = filtered(kernel.dump(), 31).dump
    result._spaces = kernel.dump()._spaces
    rows = {row.what: row.value for row in phypan.run(result, "explain", address=64 * 65536)}
    assert rows["state"] == "excluded: free page, left out by dump level 31"
