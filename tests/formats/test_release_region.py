"""release_region: the kernel document's own text, every notation, and what is no such text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import release_region
from phypan.formats.release_region import LOW_MEMORY, Pair, ReleaseRegion
from tests.damage import cut_short, refused

# Documentation/powerpc/phyp-assisted-dump.txt, as it is printed there: on two lines.
DOCUMENT = """CPU:0x177fee000-0x10000: HPTE:0x177ffe020-0x1000: /
DUMP:0x177fff020-0x10000000, 0x10000000-0x16F1D370A"""
DOCUMENTS = ReleaseRegion(
    Pair(0x177FEE000, 0x10000),
    Pair(0x177FFE020, 0x1000),
    Pair(0x177FFF020, 0x10000000),
    Pair(0x10000000, 0x16F1D370A),
)
# show_release_region() of 3.0 prints one line with a colon at its end; and a header that it has
# just made anew, with offsets and without lengths (the sizes are the document's).
KERNEL = "CPU:0x0-0x0: HPTE:0x10020-0x0: DUMP:0x11020-0x0, 0x10000000-0x15fef2000:\n"


@pytest.mark.parametrize(
    "text",
    [
        DOCUMENT,
        DOCUMENT.replace(" /\n", " "),
        DOCUMENT.replace(" /\n", " ") + ":",
        DOCUMENT.replace(" /\n", " ") + ":\n",
        DOCUMENT.replace(" /\n", " /\r\n"),
        DOCUMENT.replace(" /\n", " \\\n    "),
        "\n\t" + DOCUMENT + "  \n\n",
        DOCUMENT.replace("0x", ""),
        DOCUMENT.replace("0x", "0X"),
        DOCUMENT.lower().replace("cpu", "CPU").replace("hpte", "HPTE").replace("dump", "DUMP"),
        DOCUMENT.replace("-", " - ").replace(":0", " : 0"),
    ],
)
def test_every_notation_of_the_document(text) -> None:
    region = release_region.read(text)
    assert region == DOCUMENTS
    assert not region.offsets


def test_the_documents_numbers_make_sense() -> None:
    """CPU area, HPTE area and the copy follow each other; there are 0x20 bytes before the first."""
    assert DOCUMENTS.cpu.end + 0x20 == DOCUMENTS.hpte.start
    assert DOCUMENTS.hpte.end == DOCUMENTS.dump.start
    assert DOCUMENTS.dump.length == LOW_MEMORY


def test_offsets_without_lengths_as_a_real_kernel_prints_them() -> None:
    region = release_region.read(KERNEL)
    assert region.offsets
    assert region.at(0x177FEE000) == ReleaseRegion(
        Pair(0x177FEE000, 0),
        Pair(0x177FFE020, 0),
        Pair(0x177FFF020, 0),
        Pair(0x10000000, 0x15FEF2000),
    )
    assert DOCUMENTS.at(0x1000) is DOCUMENTS, "addresses are addresses"
    said = [problem.what for problem in release_region.problems(region)]
    assert "offsets instead of addresses" in said
    assert sum("length 0" in what for what in said) == 3


def test_the_rest_may_be_missing() -> None:
    region = release_region.read("CPU:0x1000-0x20: HPTE:0x1020-0x0: DUMP:0x2000-0x10000000")
    assert region.rest is None
    assert region.dump == Pair(0x2000, 0x10000000)


def test_a_rest_that_is_not_whole_pages_is_said() -> None:
    said = [str(problem) for problem in release_region.problems(DOCUMENTS)]
    assert any("0x16f1d370a bytes, not whole pages" in text for text in said)


u64 = st.integers(0, (1 << 64) - 1)
pairs = st.builds(Pair, u64, u64).filter(lambda pair: pair.end <= 1 << 64)
regions = st.builds(ReleaseRegion, pairs, pairs, pairs, pairs)


@given(regions)
def test_what_is_written_is_read(region) -> None:
    text = release_region.write(region)
    assert text.count("\n") == 1
    assert release_region.read(text) == region


@given(
    regions,
    st.lists(st.sampled_from(["", " ", ": ", ":", "\n", " /\n", ", "]), min_size=4, max_size=4),
)
def test_any_gap_between_the_parts(region, gaps) -> None:
    parts = [
        f"{name}:{pair.start:#x}-{pair.length:#x}"
        for name, pair in (("CPU", region.cpu), ("HPTE", region.hpte), ("DUMP", region.dump))
    ]
    rest = f"{region.rest.start:#x}-{region.rest.length:#x}"
    text = parts[0] + gaps[0] + parts[1] + gaps[1] + parts[2] + (gaps[2] or ", ") + rest + gaps[3]
    assert release_region.read(text) == region


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CPU",
        "CPU:0x1-0x2",
        DOCUMENT.replace("HPTE", "HPT"),
        DOCUMENT + " and more",
        "x" + DOCUMENT,
        DOCUMENT.replace("0x1000:", ":"),
        DOCUMENT.replace("0x177ffe020", "0x12345678901234567"),
        DOCUMENT.replace("0x1000:", "0xffffffffffffffff:"),
        DOCUMENT.replace("0x10000:", "-0x10000:"),
        "\ud800",
    ],
)
def test_other_texts_are_refused(text) -> None:
    with pytest.raises(BadRecord) as caught:
        release_region.read(text)
    assert caught.value.where == "release_region"


def test_a_cut_text_is_refused_or_a_shorter_number() -> None:
    """A text that was cut inside of a number cannot be told from a whole one."""
    line = KERNEL.rstrip(":\n")
    whole = line.index("DUMP:0x11020-0x0") + len("DUMP:0x11020-0")
    read = [text.decode() for text in cut_short(line.encode())]
    for text in read[:whole]:
        with pytest.raises(BadRecord):
            release_region.read(text)
    assert (
        refused(lambda data: release_region.read(data.decode()), cut_short(line.encode())) >= whole
    )


@pytest.mark.parametrize("filler", [":", " ", "/ ,", "0", "0x0-"])
def test_a_long_text_of_nonsense_is_refused_at_once(filler) -> None:
    began = time.process_time()
    for size in (4000, 1_000_000):
        head = "CPU:0x1-0x2: HPTE:0x3-0x4: DUMP:0x5-0x6,"
        with pytest.raises(BadRecord):
            release_region.read(head + filler * (size // len(filler)) + "!")
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("0x40000000 0x10000000", Pair(0x40000000, 0x10000000)),  # the document's example
        ("40000000 10000000\n", Pair(0x40000000, 0x10000000)),
        ("  0X1\t0X2 and what sscanf does not look at", Pair(1, 2)),
    ],
)
def test_what_is_written_to_give_memory_back(text, pair) -> None:
    assert release_region.read_release(text) == pair


@given(pairs)
def test_what_is_given_back_is_read(pair) -> None:
    assert release_region.read_release(release_region.write_release(pair)) == pair


@pytest.mark.parametrize("text", ["", "0x1", "one two", "0x1,0x2", "g 1", "x" * 100_000])
def test_the_kernel_would_say_einval(text) -> None:
    with pytest.raises(BadRecord) as caught:
        release_region.read_release(text)
    assert len(str(caught.value)) < 200
