"""The KDUMP writer: read back by phypan, and by a reader written here from the specification."""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import phypan
from phypan import Extent, Hole, Memory, NotInDump, OutputError, PageState
from phypan.formats import elfcore, kdump
from phypan.pages import codecs
from tests.made_dumps import content, made, same_memory

CODECS = codecs.NAMES
_KINDS = st.lists(st.sampled_from([None, 0, 1, 2, 3]), max_size=40).filter(
    lambda kinds: any(kind is not None for kind in kinds)
)


@settings(max_examples=120)
@given(
    kinds=_KINDS,
    order=st.sampled_from(["big", "little"]),
    page_size=st.sampled_from([4096, 65536]),
    compress=st.sampled_from([*CODECS, "keep"]),
    cut=st.tuples(st.integers(0, 4095), st.integers(0, 4095)),
    split=st.integers(1, 4),
    flattened=st.booleans(),
    threads=st.integers(1, 3),
)
def test_the_dump_comes_back(
    tmp_path_factory, kinds, order, page_size, compress, cut, split, flattened, threads
) -> None:
    stored = [kind for kind in kinds if kind is not None]
    if len(stored) == 1:
        cut = (cut[0] // 2, cut[1] // 2)
    first = made(kinds, page_size=page_size, order=order, cut=cut)
    target = tmp_path_factory.mktemp("made") / "dump"
    done = phypan.convert(
        first, target, format="kdump", compress=compress, split=min(split, len(stored)),
        flattened=flattened, num_threads=threads,
    )  # fmt: skip
    assert done.complete
    assert sum(written.pages for written in done.written) == len(stored)
    with phypan.open(*done.paths) as second:
        assert second.problems == []
        same_memory(first.memory, second.memory)
        assert [cpu.regs() for cpu in second.cpus] == [cpu.regs() for cpu in first.cpus]
        assert (second.byte_order, second.page_size) == (order, page_size)
        assert second.vmcoreinfo is not None
        assert second.vmcoreinfo.release == "6.1.0-made"
        assert second.crash_time == 1700000000
        assert not second.incomplete
        for number, kind in enumerate(kinds):
            if kind == 0 and cut == (0, 0):
                assert second.memory.state(number * page_size)[0] is PageState.ZERO


@pytest.mark.parametrize("order", ["big", "little"])
def test_a_reader_written_from_the_specification_reads_it(tmp_path, order: str) -> None:
    size, kinds = 65536, [1, None, 0, 2, 3, 0, None, 1]
    dump = made(kinds, page_size=size, order=order)
    phypan.convert(dump, tmp_path / "dump", format="kdump")
    data, mark = (tmp_path / "dump").read_bytes(), ">" if order == "big" else "<"
    assert data[:8] == b"KDUMP   "
    assert struct.unpack_from(mark + "i", data, 8) == (6,)
    names = [data[12 + 65 * n : 77 + 65 * n].rstrip(b"\0") for n in range(6)]
    assert names[2] == b"6.1.0-made"
    assert names[4] == (b"ppc64" if order == "big" else b"ppc64le")
    seconds, micro, status, block, sub, bitmaps, frames = struct.unpack_from(
        mark + "qqIiiII", data, 408
    )
    assert (seconds, micro, status, block, frames) == (1700000000, 0, 0, size, 8)
    assert struct.unpack_from(mark + "i", data, 460) == (2,), "one for each NT_PRSTATUS"
    level, split = struct.unpack_from(mark + "ii", data, size + 8)
    assert (level, split) == (0, 0)
    info_at, info_size, notes_at, notes_size = struct.unpack_from(mark + "qQqQ", data, size + 32)
    assert data[info_at : info_at + info_size].startswith(b"OSRELEASE=6.1.0-made\n")
    assert struct.unpack_from(mark + "QQQ", data, size + 80) == (0, 0, 8)
    assert notes_at == size + 104
    assert sub == -(-(104 + notes_size) // size)
    notes = list(elfcore.read_notes(data[notes_at : notes_at + notes_size], order))
    assert [note.type for note in notes if note.name == b"CORE"] == [1, 1]
    first = (1 + sub) * size
    assert bitmaps == 2
    assert (
        data[first]
        == data[first + size]
        == sum(1 << n for n, k in enumerate(kinds) if k is not None)
    )
    at = first + 2 * size
    for number, kind in enumerate(kinds):
        if kind is None:
            continue
        offset, count, flags, _ = struct.unpack_from(mark + "qIIQ", data, at)
        at += 24
        stored = data[offset : offset + count]
        page = zlib.decompress(stored) if flags == 1 else stored
        assert flags in (0, 1)
        assert page == content(kind, number, size)
    assert os.path.getsize(tmp_path / "dump") == len(data)


@pytest.mark.parametrize("compress", [*CODECS, "keep"])
def test_the_file_does_not_depend_on_threads_or_numba(tmp_path, monkeypatch, compress) -> None:
    dump = made([n % 4 for n in range(2000)], page_size=4096)
    files = []
    for number, (threads, kernels) in enumerate([(1, ""), (2, ""), (5, ""), (3, "plain")]):
        monkeypatch.setenv("PHYPAN_KERNELS", kernels)
        path = tmp_path / str(number)
        phypan.convert(dump, path, format="kdump", compress=compress, num_threads=threads)
        files.append(path.read_bytes())
    assert files[0] == files[1] == files[2]
    assert len(files[3]) == len(files[0])
    assert files[3] == files[0], "a host without numba writes the same"


def test_pages_are_kept_as_they_are_stored(tmp_path) -> None:
    dump = made([n % 4 for n in range(300)])
    phypan.convert(dump, tmp_path / "one", format="kdump", compress="zstd")
    with phypan.open(tmp_path / "one") as one:
        one.source = "made"
        phypan.convert(one, tmp_path / "two", format="kdump", compress="keep")
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


def test_makedumpfiles_utsname_comes_from_memory() -> None:
    from phypan.plugins.writers.kdump_plan import _utsname

    dump = made([1, 1])
    assert _utsname(dump) == (b"Linux", b"", b"6.1.0-made", b"", b"ppc64le", b"(none)")
    page = bytearray(4096)
    names = (b"Linux", b"host", b"6.1.0-made", b"#1 SMP", b"ppc64le", b"(none)")
    for n, name in enumerate(names):
        page[100 + 65 * n : 100 + 65 * n + len(name)] = name
    dump.memory = Memory([Extent(0x10000, 4096, phypan.BytesStore(bytes(page)), 0)])
    assert dump.vmcoreinfo is not None
    text = dump.vmcoreinfo.text + b"SYMBOL(init_uts_ns)=c000000000010060\n"
    dump.vmcoreinfo = type(dump.vmcoreinfo)(text)  # before 5.9: a kref of four bytes is in front
    assert _utsname(dump) == names
    text += b"OFFSET(uts_namespace.name)=4\n"
    dump.vmcoreinfo = type(dump.vmcoreinfo)(text)
    assert _utsname(dump) == names


class Stop:
    """A Progress that does as if somebody had pressed Ctrl-C."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, done: int, total: int) -> None:
        if done >= self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("flattened", [False, True])
def test_an_interrupted_dump_is_finished_on_request(tmp_path, flattened: bool) -> None:
    dump = made([n % 4 for n in range(4000)])
    done = phypan.convert(
        dump, tmp_path / "dump", format="kdump", keep_incomplete=True, flattened=flattened,
        progress=Stop(4 << 20),
    )  # fmt: skip
    assert not done.complete
    assert done.written[0].reason == "interrupted"
    with phypan.open(tmp_path / "dump") as second:
        assert second.incomplete
        assert second.problems == []
        count = done.written[0].pages
        assert 1024 <= count < 4000
        assert second.memory.read(0, count * 4096) == dump.memory.read(0, count * 4096)
        with pytest.raises(NotInDump, match="not finished"):
            second.memory.read(count * 4096, 1)
    assert not (tmp_path / "dump.incomplete").exists()


def test_an_interrupted_dump_is_left_unfinished_otherwise(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        phypan.convert(made([2] * 3000), tmp_path / "dump", format="kdump", progress=Stop(1))
    assert [path.name for path in tmp_path.iterdir()] == ["dump.incomplete"]


def _full(monkeypatch, room: int) -> None:
    """A file system that has no room behind `room` bytes of a file."""
    real = os.pwrite

    def pwrite(descriptor, data, offset):
        if offset + len(data) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


def test_when_space_runs_out_the_file_is_finished_on_request(tmp_path, monkeypatch) -> None:
    dump = made([2] * 4000)
    _full(monkeypatch, 8 << 20)
    with pytest.raises(OutputError, match="No space left"):
        phypan.convert(dump, tmp_path / "dump", format="kdump")
    done = phypan.convert(dump, tmp_path / "dump", format="kdump", force=True, keep_incomplete=True)
    assert "No space left" in done.written[0].reason
    with phypan.open(tmp_path / "dump") as second:
        assert second.incomplete
        count = done.written[0].pages
        assert second.memory.read(0, count * 4096) == dump.memory.read(0, count * 4096)


class Broken(phypan.BytesStore):
    """A store of which a page turns out to be damaged."""

    def readinto(self, offset, buffer):
        if offset <= 5 * 4096 < offset + len(buffer):
            raise NotInDump(5 * 4096, "damaged", "the disk says so")
        super().readinto(offset, buffer)


def test_a_page_that_cannot_be_read_is_missing_and_told(tmp_path) -> None:
    data = b"".join(content(2, n, 4096) for n in range(9))
    dump = made([1])
    dump.memory = Memory([Extent(0, len(data), Broken(data), 0)])
    done = phypan.convert(dump, tmp_path / "dump", format="kdump")
    assert (done.complete, done.written[0].damaged, done.written[0].pages) == (False, 1, 8)
    assert "the disk says so" in dump.problems[0].what
    with phypan.open(tmp_path / "dump") as second:
        assert second.incomplete
        assert second.memory.read(0, 5 * 4096) == data[: 5 * 4096]
        assert second.memory.read(6 * 4096, 3 * 4096) == data[6 * 4096 :]
        assert second.memory.at(5 * 4096).state is PageState.DAMAGED


def test_known_holes_keep_their_reasons(tmp_path) -> None:
    holes = [
        Hole(2 * 4096, 4096, PageState.DAMAGED, "the firmware did not preserve it"),
        Hole(4 * 4096, 2 * 4096, PageState.ABSENT, "given to the firmware"),
    ]
    dump = made([1, 1, None, 1, None, None, 1], holes=holes)
    dump.incomplete = True
    phypan.convert(dump, tmp_path / "dump", format="kdump")
    with phypan.open(tmp_path / "dump") as second:
        same_memory(dump.memory, second.memory)
        assert second.incomplete
        head = kdump.read(*_file(tmp_path / "dump"))
        assert head.incomplete


def _file(path):
    data = path.read_bytes()
    return (lambda at, size: data[at : at + size]), len(data)


# -- plan and fill ---------------------------------------------------------------------------------


class Noted:
    """An Output that knows where each checkpoint was."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.puts: list[tuple[int, bytes]] = []
        self.checkpoints: list[tuple[int, int, dict, list]] = []

    def write_at(self, offset, data) -> None:
        end = offset + len(data)
        self.data.extend(bytes(max(0, end - len(self.data))))
        self.data[offset:end] = data
        self.puts.append((offset, bytes(data)))

    def truncate(self, size: int) -> None:
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))

    def checkpoint(self, below, state, lost=()) -> None:
        self.checkpoints.append((len(self.puts), below, json.loads(json.dumps(state)), list(lost)))


def small_batches(monkeypatch, pages: int, page_size: int) -> None:
    monkeypatch.setattr("phypan.conversion.pipeline.BATCH", pages * page_size)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    kinds=_KINDS,
    order=st.sampled_from(["big", "little"]),
    compress=st.sampled_from([*CODECS, "keep"]),
    cut=st.tuples(st.integers(0, 2000), st.integers(0, 2000)),
    pages=st.integers(1, 5),
    bad=st.sets(st.integers(0, 40), max_size=5),
)
def test_filled_from_any_checkpoint_on_it_is_the_same_file(
    tmp_path_factory, monkeypatch, kinds, order, compress, cut, pages, bad
) -> None:
    """Of write, of fill, and of fill that goes on: the same bytes are put in the same order."""
    small_batches(monkeypatch, pages, 4096)
    writer = phypan.writers()["kdump"]
    options = {"compress": compress, "num_threads": 2}

    def dump():
        found = made(kinds, order=order, cut=cut)
        found.memory = Memory(map(partial(_part_unreadable, bad), found.memory.extents))
        return found

    written, filled = Noted(), Noted()
    told = writer.write(dump(), written, lambda done, total: None, **options)
    plan = writer.plan(dump(), **options)
    again = writer.fill(plan, dump().memory, filled, lambda done, total: None, {}, False)
    assert filled.puts == written.puts
    assert again == told
    lost = [entry for *_, some in filled.checkpoints for entry in some]
    assert sum(entry.size for entry in lost) == 4096 * told.damaged
    assert all(entry.at // 4096 in bad and "broken" in entry.why for entry in lost)
    for puts, below, state, _ in filled.checkpoints:
        rest = Noted(filled.data)  # more may be there than was noted
        memory = Memory(
            extent for extent in dump().memory.extents if extent.end > below
        )  # what is below is somebody else's by now
        last = writer.fill(plan, memory, rest, lambda done, total: None, state, False)
        assert rest.puts == filled.puts[puts:]
        assert rest.data == filled.data
        assert last == told
        rest.puts.clear()
        writer.fill(plan, memory, rest, lambda done, total: None, state, True)
        assert rest.data == filled.data
        assert (0, filled.puts[-3][1] if told.damaged else filled.puts[0][1]) in rest.puts


def _part_unreadable(bad: set[int], extent: Extent) -> Extent:
    store = Unreadable(extent, bad)
    return Extent(extent.start, extent.size, store, extent.offset)


class Unreadable:
    """A store of which some page frames cannot be read."""

    def __init__(self, extent: Extent, bad: set[int]) -> None:
        self._extent, self._bad, self._store = extent, bad, extent.store
        self.name, self.size, self.data = "broken", self._store.size, self._store.data

    def readinto(self, offset, buffer) -> None:
        address = self._extent.start + offset - self._extent.offset
        last = (address + len(buffer) - 1) // 4096
        for frame in range(address // 4096, last + 1):
            if frame in self._bad:
                raise NotInDump(address, "damaged", "it is broken")
        self._store.readinto(offset, buffer)

    def view(self, offset, size):
        buffer = bytearray(size)
        self.readinto(offset, memoryview(buffer))
        return memoryview(buffer)

    def close(self) -> None:
        pass


@given(st.binary(max_size=200))
def test_what_is_no_plan_is_refused(data) -> None:
    fill = phypan.writers()["kdump"].fill
    for bad in (data, b'{"compress": "zlib", "num_threads": 0}\n' + data):
        with pytest.raises(phypan.BadRecord):
            fill(bad, Memory([]), Noted(), lambda done, total: None, {}, False)
