"""The ELF writer: what comes out is what went in, whatever memory looks like."""

from __future__ import annotations

import subprocess
import sys

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

import phypan
from phypan.dump import Cpu, Dump
from phypan.errors import Problem
from phypan.formats import elfcore, pt_regs, regsave, vmcoreinfo
from phypan.formats.elfcore import Note
from phypan.memory import Extent, Hole, Memory, PageState
from phypan.sinks import no_progress
from phypan.stores import BytesStore
from tests import synthetic

STORE = BytesStore(bytes(range(256)) * 1024 + bytes(1 << 20))


def written(dump: Dump, folder, **options):
    path = phypan.convert(dump, folder / "vmcore", force=True, **options)
    data = path.read_bytes()
    return data, elfcore.read(lambda at, size: data[at : at + size], len(data))


def same(first: Dump, second: Dump) -> None:
    """All that a Dump is, but for where it came from."""
    assert [(e.start, e.size) for e in merged(second)] == [(e.start, e.size) for e in merged(first)]
    for extent in merged(first):
        assert second.memory.read(extent.start, extent.size) == first.memory.read(
            extent.start, extent.size
        )
    assert list(second.memory.holes()) == list(first.memory.holes())
    for name in (
        "cpus", "byte_order", "page_size", "vmcoreinfo", "kernel_dump", "hptesave", "crash_info",
        "crash_time", "incomplete", "notes", "raw", "problems",
    ):  # fmt: skip
        assert getattr(second, name) == getattr(first, name), name


def merged(dump: Dump) -> list[Extent]:
    """Extents that follow each other as one."""
    found: list[Extent] = []
    for extent in dump.memory.extents:
        if found and found[-1].end == extent.start:
            last = found.pop()
            found.append(Extent(last.start, last.size + extent.size, last.store, last.offset))
        else:
            found.append(extent)
    return found


PAGE = 4096
places = st.lists(st.integers(0, 200), unique=True, max_size=8).map(sorted)
words = st.integers(0, (1 << 64) - 1)
register_sets = st.dictionaries(st.sampled_from(sorted(regsave.REGISTERS)), words, max_size=12).map(
    lambda found: {n: v % (1 << 32) if n in regsave.FOUR_BYTES else v for n, v in found.items()}
)
texts = st.text(max_size=20)


@st.composite
def dumps(draw) -> Dump:
    """Dumps that no firmware saved: memory, CPUs of a core file, notes."""
    shift = draw(st.sampled_from([0, 432, 1 << 32]))
    extents = [
        Extent(shift + n * PAGE, draw(st.sampled_from([PAGE, 100, PAGE - 1])), STORE, n * 7)
        for n in draw(places.filter(len))
    ]
    holes = [
        Hole(
            shift + n * PAGE,
            draw(st.integers(1, 3 * PAGE)),
            draw(st.sampled_from(PageState)),
            draw(texts),
        )
        for n in draw(places)
    ]
    memory = Memory(extents, holes)
    order = draw(st.sampled_from(["big", "little"]))
    cpus = [
        Cpu(
            n,
            kernel=pt_regs.of(draw(st.lists(words, max_size=48))),
            notes=(Note(b"LINUX", 7, b"n"),),
        )
        for n in sorted(draw(st.lists(st.integers(0, 1000), unique=True, max_size=3)))
    ]
    text = b"OSRELEASE=6.12.0\nPAGESIZE=%d\nCRASHTIME=5\n" % draw(st.sampled_from([4096, 65536]))
    info = vmcoreinfo.read(text)
    return Dump(
        "test", memory, cpus, order, info.page_size, info, crash_time=5,
        incomplete=any(hole.state is PageState.DAMAGED for hole in memory.holes()),
        notes=(Note(b"OTHER", 3, draw(st.binary(max_size=20))),),
        raw={0x50485077: draw(st.binary(max_size=30))},
        problems=draw(st.lists(st.builds(Problem, texts, texts, texts), max_size=3, unique=True)),
    )  # fmt: skip


@given(dumps())
@settings(max_examples=60)
def test_what_is_written_is_read(tmp_path_factory, dump) -> None:
    folder = tmp_path_factory.mktemp("elf")
    written(dump, folder)
    with phypan.open(folder / "vmcore") as again:
        same(dump, again)


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("wrong", [None, "short copy", "no registers", "no header", "offline"])
def test_a_firmware_assisted_dump_is_read_whole(folder, order, wrong) -> None:
    """Its own registers, areas, holes and problems; also what was wrong with it."""
    partition = synthetic.Partition(order)
    if wrong == "short copy":
        area = partition.copy - partition.save
        partition.property = synthetic.kernel_dump(
            synthetic.section(1, 0, area, partition.save),
            synthetic.section(0x11, 0, partition.boot, partition.copy, dumped=70000, error=0x0800),
        )
    elif wrong == "no registers":
        partition.ram[partition.save : partition.copy] = bytes(partition.copy - partition.save)
    elif wrong == "no header":
        partition.ram[partition.header : partition.end] = bytes(partition.end - partition.header)
    elif wrong == "offline":
        partition.ram[partition.end - 8 : partition.end] = (2).to_bytes(8, order)
    with phypan.open(partition.save_to(folder / "crashed")) as first:
        assert bool(first.problems) == (wrong in ("short copy", "no registers"))
        written(first, folder)
        with phypan.open(folder / "vmcore") as second:
            same(first, second)
            phypan.convert(second, folder / "again")
    with phypan.open(folder / "vmcore") as second, phypan.open(folder / "again") as third:
        same(second, third)


def test_file_offsets_are_where_crash_and_mmap_want_them(folder) -> None:
    extents = [
        Extent(0, PAGE, STORE, 0),
        Extent(0x281B0, PAGE, STORE, 5),
        Extent(1 << 40, 3, STORE, 1),
    ]
    data, core = written(Dump("test", Memory(extents)), folder)
    note, *loads = core.segments
    assert note.type == elfcore.PT_NOTE
    assert note.offset == elfcore.head_size(4), "right behind the headers"
    for load in loads:
        assert load.offset % 65536 == load.paddr % 65536
        assert load.offset >= note.offset + note.filesz
        assert (load.align, load.flags, load.filesz) == (0, 7, load.memsz)
        assert load.vaddr == 0xC000000000000000 + load.paddr
    assert len(data) == loads[-1].offset + 3


def test_extents_that_follow_each_other_become_one_segment(folder) -> None:
    extents = [Extent(0, 10, STORE, 0), Extent(10, 10, STORE, 50), Extent(21, 5, STORE, 0)]
    data, core = written(Dump("test", Memory(extents)), folder)
    assert [(load.paddr, load.filesz) for load in core.loads] == [(0, 20), (21, 5)]
    load = core.loads[0]
    assert data[load.offset : load.offset + 20] == bytes([*range(10), *range(50, 60)])


@pytest.mark.parametrize(
    ("order", "incomplete", "flags"),
    [("big", False, 0), ("little", False, 2), ("big", True, 1), ("little", True, 3)],
)
def test_e_flags_are_what_crash_makes_of_them(folder, order, incomplete, flags) -> None:
    _, core = written(Dump("test", Memory([]), byte_order=order, incomplete=incomplete), folder)
    assert core.flags == flags


def test_more_segments_than_their_counter_holds(folder) -> None:
    extents = [Extent(n * 2 * PAGE, 16, STORE, n % 256) for n in range(65_600)]
    dump = Dump("test", Memory(extents))
    phypan.convert(dump, folder / "vmcore")
    with phypan.open(folder / "vmcore") as again:
        assert len(again.memory.extents) == 65_600
        assert again.memory.read(65_599 * 2 * PAGE, 16) == bytes(range(63, 79))
    with (folder / "vmcore").open("rb") as file:
        elf = ELFFile(file)
        assert elf.num_segments() == 65_601
        assert elf.get_segment(65_600)["p_paddr"] == 65_599 * 2 * PAGE


def test_progress_goes_up_to_the_whole(folder) -> None:
    seen = []
    memory = Memory([Extent(0, 200, STORE, 0), Extent(1 << 20, 100, STORE, 0)])
    phypan.convert(Dump("test", memory), folder / "v", progress=lambda *at: seen.append(at))
    assert seen == [(200, 300), (300, 300)]


def test_an_empty_dump_is_written_too(folder) -> None:
    _, core = written(Dump("test", Memory([])), folder)
    assert len(core.segments) == 1


PEAK = """
import sys, phypan
with phypan.open(sys.argv[1], regions=[sys.argv[2]]) as dump:
    phypan.convert(dump, sys.argv[3])
# Not ru_maxrss: that knows what the parent had before it became this process.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_a_sparse_image_of_64_gib_takes_no_more_memory_than_a_small_one(folder) -> None:
    partition = synthetic.Partition()
    partition.save_to(folder)
    peaks = []
    for size in (partition.size, 64 << 30):
        with (folder / "ram").open("r+b") as file:
            file.truncate(size)
        paths = (folder / "ram", folder / "ibm,kernel-dump", folder / f"v{size}")
        command = [sys.executable, "-c", PEAK, *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert (folder / f"v{64 << 30}").stat().st_size > 63 << 30
    assert (folder / f"v{64 << 30}").stat().st_blocks * 512 < 64 << 20
    assert peaks[1] < 250 << 10, "kilobytes"
    assert peaks[1] < peaks[0] * 1.3


def test_the_output_may_be_anything_that_takes_bytes_at_offsets() -> None:
    from phypan.plugins.writers import elf

    class Output:
        def __init__(self) -> None:
            self.data = bytearray()

        def write_at(self, offset, data) -> None:
            self.data[len(self.data) :] = bytes(max(0, offset + len(data) - len(self.data)))
            self.data[offset : offset + len(data)] = data

        def copy(self, store, offset, size, at) -> None:
            self.write_at(at, store.view(offset, size))

        def truncate(self, size) -> None:
            assert size >= len(self.data)

    output = Output()
    elf.write(Dump("test", Memory([Extent(0, 100, STORE, 0)])), output, no_progress)
    core = elfcore.read(lambda at, size: output.data[at : at + size], len(output.data))
    load = core.loads[0]
    assert output.data[load.offset :] == bytes(range(100))
