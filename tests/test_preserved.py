"""What is left of memory: compared address by address with the slow and obvious way."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan import preserved
from phypan.errors import NotInDump
from phypan.formats.kernel_dump import Section, SectionType
from phypan.memory import EVERYWHERE, Hole, Memory, PageState
from phypan.preserved import merged
from phypan.stores import BytesStore

SIZE = 120  # addresses of a small partition
PAGE, SECOND = 3, 10  # its largest page, and what its second kernel gets
CPU, HPTE, LOW = (int(kind) for kind in list(SectionType)[:3])


@pytest.fixture(autouse=True, scope="module")
def small_world():
    before = preserved.LARGEST_PAGE, preserved.SECOND_KERNEL
    preserved.LARGEST_PAGE, preserved.SECOND_KERNEL = PAGE, SECOND
    yield
    preserved.LARGEST_PAGE, preserved.SECOND_KERNEL = before


sections = st.builds(
    Section,
    type=st.sampled_from([CPU, HPTE, LOW, LOW, LOW, 0x12, 0x100, 0x7]),
    source=st.integers(0, SIZE) | st.just(0),
    length=st.integers(0, 40),
    destination=st.integers(0, SIZE + 10),
    dumped=st.integers(0, 50) | st.just(40),
)
stretches = st.none() | st.lists(
    st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), min_size=1, max_size=3
)


def expected(ram: bytes, found: list[Section], told) -> dict[int, int | None]:
    """address -> byte, None where there is a hole."""
    known = [s for s in found if s.type in (CPU, HPTE, LOW, 0x12) or s.type >= 0x100]
    copies = [
        s for s in known if s.type not in (CPU, HPTE) and s.length and s.source != s.destination
    ]
    firmware = [s for s in known if s.type in (CPU, HPTE) or s.source != s.destination]
    wrote = [set(range(s.destination, s.destination + min(s.length, s.dumped))) for s in firmware]
    often = {a for n, one in enumerate(wrote) for other in wrote[n + 1 :] for a in one & other}
    copied = {a for s in copies for a in range(s.source, s.source + s.length)}
    mixed = set().union(*wrote) & copied
    kept = set()
    for s in firmware:
        kept |= set(range(s.destination, s.destination + s.length))
    kept |= {
        a for a in range(2 * SIZE)
        for gap in range(2, PAGE + 1)
        for left in range(1, gap)
        if a - left in kept and a - left + gap in kept and a not in kept
    }  # fmt: skip
    if not any(s.source == 0 for s in copies):
        kept |= set(range(SECOND))
    world: dict[int, int | None] = {}
    for a in range(3 * SIZE):
        world[a] = None
        own = [s for s in copies if s.source <= a < s.source + s.length]
        for s in own:
            at = s.destination + a - s.source
            good = a - s.source < s.dumped and at < len(ram) and at not in often | mixed
            if good and a not in mixed:
                world[a] = ram[at]
                break
        inside = told is None or any(start <= a < start + size for start, size in told)
        if not own and inside and a < len(ram) and a not in kept | mixed:
            world[a] = ram[a]
    return world


def readable(memory: Memory, address: int) -> int | None:
    try:
        return memory.read(address, 1)[0]
    except NotInDump:
        return None


@given(st.lists(sections, max_size=4), stretches, st.integers(0, SIZE))
def test_memory_is_what_the_slow_way_says(found, told, size) -> None:
    ram = bytes(range(1, size + 1))
    memory, problems = preserved.memory(BytesStore(ram), found, told)
    world = expected(ram, found, told)
    assert {a: readable(memory, a) for a in world} == world
    assert memory.end <= 3 * SIZE
    damaged = [h for h in memory.holes() if h.state is PageState.DAMAGED]
    assert problems or not damaged or any(s.dumped < s.length for s in found), (
        "or the platform said"
    )
    assert all(problem.what and problem.where and problem.meaning for problem in problems)


def say(found, told=None, size=SIZE, header=None):
    ram = BytesStore(bytes(range(1, size + 1)), "ram")
    memory, problems = preserved.memory(ram, found, told, header)
    return memory, [problem.what for problem in problems]


def test_low_memory_is_the_copy_and_the_rest_is_in_its_place() -> None:
    memory, said = say([Section(CPU, 0, 4, 60, 4), Section(LOW, 0, 20, 64, 20)])
    assert memory.read(0, 20) == bytes(range(65, 85))
    assert memory.read(20, 40) == bytes(range(21, 61))
    assert memory.read(84, 36) == bytes(range(85, 121))
    (hole,) = memory.holes()
    assert (hole.start, hole.end, hole.state) == (60, 84, PageState.ABSENT)
    assert "preserved" in hole.why
    assert said == []


def test_gaps_of_less_than_a_page_belong_to_the_save_area() -> None:
    memory, _ = say([Section(CPU, 0, 4, 60, 4), Section(LOW, 0, 20, 66, 20)])
    assert [(h.start, h.end) for h in memory.holes()] == [(60, 86)]
    memory, _ = say([Section(CPU, 0, 4, 60, 4), Section(LOW, 0, 20, 67, 20)])
    assert [(h.start, h.end) for h in memory.holes()] == [(60, 64), (67, 87)]


def test_linuxs_header_is_part_of_the_save_area() -> None:
    memory, _ = say([Section(LOW, 0, 20, 64, 20)], header=(84, 90))
    assert [(h.start, h.end) for h in memory.holes()] == [(64, 90)]


def test_what_was_copied_short_is_damaged_and_never_what_lies_there_now() -> None:
    memory, said = say([Section(LOW, 0, 20, 64, 12)])
    hole = memory.at(12)
    assert (hole.start, hole.end, hole.state) == (12, 20, PageState.DAMAGED)
    assert "12 bytes" not in hole.why
    assert "0xc of 0x14 bytes" in hole.why
    assert said == [], "the platform's own words, which are elsewhere"


def test_several_copies_each_have_their_source() -> None:
    memory, said = say([Section(LOW, 0, 10, 64, 10), Section(LOW, 20, 10, 74, 10)])
    assert memory.read(0, 40) == bytes(
        [*range(65, 75), *range(11, 21), *range(75, 85), *range(31, 41)]
    )
    assert said == []


def test_the_parameter_area_stays_where_it_is() -> None:
    memory, said = say([Section(LOW, 0, 10, 64, 10), Section(0x100, 30, 5, 30, 5)])
    assert memory.read(30, 5) == bytes(range(31, 36))
    assert said == []


@pytest.mark.parametrize(
    ("found", "what", "lost"),
    [
        (
            [Section(LOW, 0, 20, 60, 20), Section(LOW, 20, 20, 70, 20)],
            "lie on each other",
            (10, 30),
        ),
        ([Section(LOW, 0, 20, 60, 20), Section(CPU, 0, 5, 62, 5)], "lie on each other", (2, 7)),
        ([Section(LOW, 0, 20, 10, 20)], "lie on what was copied", (0, 20)),
        ([Section(LOW, 0, 20, 60, 20), Section(CPU, 0, 5, 3, 5)], "lie on what was copied", (3, 8)),
    ],
)
def test_areas_that_lie_on_each_other_are_not_trusted(found, what, lost) -> None:
    memory, said = say(found)
    assert any(what in text for text in said)
    for address in range(*lost):
        piece = memory.at(address)
        assert isinstance(piece, Hole)
        assert piece.state is PageState.DAMAGED


def test_memory_that_was_copied_twice_is_the_first_copy() -> None:
    memory, said = say([Section(LOW, 0, 10, 64, 10), Section(LOW, 5, 10, 80, 10)])
    assert memory.read(0, 15) == bytes([*range(65, 75), *range(86, 91)])
    assert said == ["physical address 0x5 was copied more than once"]


def test_without_a_copy_the_second_kernels_memory_is_lost() -> None:
    memory, said = say([Section(CPU, 0, 4, 60, 4)])
    assert memory.at(0) == Hole(0, SECOND, PageState.DAMAGED, "the second kernel runs in it")
    assert said == ["no copy of low memory"]


def test_an_image_that_ends_before_memory_does_is_said() -> None:
    memory, said = say([Section(LOW, 0, 20, 64, 20)], [(0, SIZE)], size=70)
    assert said[0] == "0x46 bytes, memory ends at 0x78"
    assert memory.at(70).state is PageState.DAMAGED
    assert memory.read(0, 6) == bytes(range(65, 71)), "what there is of the copy"
    assert memory.at(6).state is PageState.DAMAGED


def test_memory_that_the_tree_does_not_tell_is_not_taken() -> None:
    memory, _ = say([Section(LOW, 0, 20, 64, 20)], [(0, 50), (60, 40)])
    assert isinstance(memory.at(50), Hole)
    assert isinstance(memory.at(100), Hole)
    assert memory.end == 100


@pytest.mark.parametrize("field", ["source", "destination", "length", "dumped"])
@pytest.mark.parametrize("value", [1 << 40, 1 << 63, EVERYWHERE - 4096, EVERYWHERE - 1])
def test_absurd_numbers_are_problems(field, value) -> None:
    values = {"source": 0, "length": 20, "destination": 64, "dumped": 20, field: value}
    memory, said = say([Section(LOW, **values), Section(CPU, 0, 4, 60, 4)])
    assert said or field == "dumped" or memory.at(0).state is PageState.DAMAGED
    assert memory.size <= SIZE
    memory, said = say([Section(CPU, **values)])
    assert said


@pytest.mark.parametrize("told", [[(0, EVERYWHERE)], [(1 << 63, 1 << 63)], [(EVERYWHERE - 1, 9)]])
def test_absurd_trees_are_problems(told) -> None:
    memory, said = say([Section(LOW, 0, 20, 64, 20)], told)
    assert said
    assert memory.size <= SIZE


def test_a_section_of_a_type_that_nobody_knows_is_not_taken_for_memory() -> None:
    memory, said = say([Section(LOW, 0, 20, 64, 20), Section(0x7, 0, 20, 90, 20)])
    assert memory.read(0, 1) == bytes([65])
    assert said == ["of unknown type"]


def test_an_empty_image_has_no_memory() -> None:
    memory, said = say([Section(LOW, 0, 20, 64, 20), Section(CPU, 0, 4, 60, 4)], size=0)
    assert memory.size == 0
    assert said


def test_many_sections_and_stretches_are_sorted_out_in_time() -> None:
    found = [Section(LOW, 64 * n, 64, 10**8 + 70 * n, 64) for n in range(256)]
    told = [(4096 * n, 4000) for n in range(200_000)]
    began = time.process_time()
    preserved.memory(BytesStore(bytes(1 << 20)), found, told)
    assert time.process_time() - began < 20, "about 2 s on an idle machine"


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


@given(spans, st.integers(1, 5))
def test_merged_spans_are_in_order_and_apart(found, gap) -> None:
    result = merged(found, gap)
    inside = {n for start, end in found for n in range(start, end)}
    assert {n for start, end in result for n in range(start, end)} >= inside
    for before, after in itertools.pairwise(result):
        assert after[0] - before[1] >= gap
