"""The flattened source: records in any order, over each other, with holes; damage; pipes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phypan
from phypan import BytesStore, InputError, PhypanError
from phypan.plugins.sources.flattened import FlattenedStore
from tests.kdump_files import RAW, KdumpFile, flattened

_RECORDS = st.lists(st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=60)), max_size=14)


def _file(records: list[tuple[int, bytes]]) -> bytes:
    """What the records make, the slow way."""
    data = bytearray(max((at + len(part) for at, part in records), default=0))
    for at, part in records:
        data[at : at + len(part)] = part
    return bytes(data)


@settings(max_examples=400)
@given(_RECORDS, st.integers(0, 400), st.integers(0, 400))
def test_a_later_record_counts_and_what_none_covers_is_zeros(records, offset, size) -> None:
    store, expected = FlattenedStore(BytesStore(flattened(records))), _file(records)
    assert not store.problems
    assert store.size == len(expected)
    assert store.view(0, store.size) == expected
    buffer = bytearray(size)
    if offset + size > store.size:
        with pytest.raises(InputError):
            store.view(offset, size)
        with pytest.raises(InputError):
            store.readinto(offset, memoryview(buffer))
        return
    assert store.view(offset, size) == expected[offset : offset + size]
    store.readinto(offset, memoryview(buffer))
    assert buffer == expected[offset : offset + size]
    covered = {n for start, count in store.data(offset, size) for n in range(start, start + count)}
    told = {n for at, part in records for n in range(at, at + len(part))}
    assert covered == told & set(range(offset, offset + size))


@given(st.data())
def test_a_stream_that_was_cut_keeps_what_came_before(draw: st.DataObject) -> None:
    records = draw.draw(_RECORDS.filter(bool))
    whole = flattened(records)
    cut = draw.draw(st.integers(4096, len(whole) - 1))
    store = FlattenedStore(BytesStore(whole[:cut]))
    assert store.problems, "a stream without its end was cut short"
    position, kept = 4096, []
    for at, part in records:
        there = whole[position + 16 : min(position + 16 + len(part), cut)]
        kept += [(at, there)] if there else []
        position += 16 + len(part)
    assert store.view(0, store.size) == _file(kept)


@settings(max_examples=300)
@given(_RECORDS, st.data())
def test_damage_makes_no_crash_and_no_huge_allocation(records, draw: st.DataObject) -> None:
    data = bytearray(flattened(records))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(4096, len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    store = FlattenedStore(BytesStore(bytes(data)))
    if store.size < 64 << 20:
        assert len(store.view(0, store.size)) == store.size
    elif store.size > 65 << 20:  # a wild offset in a record
        with pytest.raises(InputError, match="not in the stream"):
            store.view(0, store.size)


def test_bytes_behind_the_end_and_in_the_header_are_problems() -> None:
    data = flattened([(0, b"abc")])
    assert FlattenedStore(BytesStore(data + b"x")).problems[0].where == f"byte {len(data):#x}"
    damaged = bytearray(data)
    damaged[100] = 1
    assert FlattenedStore(BytesStore(bytes(damaged))).problems


PAGE = bytes(range(256)) * 256
DUMP = KdumpFile({1: (PAGE, RAW), 3: (PAGE[::-1], RAW)}).write()
STREAM = flattened([(at, DUMP[at : at + 50000]) for at in reversed(range(0, len(DUMP), 50000))])


def test_a_dump_comes_out_of_its_envelope(tmp_path) -> None:
    (tmp_path / "flat").write_bytes(STREAM)
    with phypan.open(tmp_path / "flat") as dump:
        assert dump.source.startswith("KDUMP file")
        assert dump.memory.read(65536, 65536) == PAGE
        assert dump.memory.read(3 * 65536, 65536) == PAGE[::-1]


def test_a_dump_comes_through_a_pipe(tmp_path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    sender = threading.Thread(target=lambda: fifo.write_bytes(STREAM))
    sender.start()
    with phypan.open(fifo) as dump:
        assert dump.memory.read(65536, 65536) == PAGE
    sender.join()
    command = [sys.executable, "-m", "phypan", "info", "-"]
    done = subprocess.run(command, input=STREAM, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"KDUMP file -" in done.stdout


def test_what_is_wrong_with_the_stream_is_a_problem_of_the_dump(tmp_path) -> None:
    (tmp_path / "flat").write_bytes(STREAM[:-16])
    with phypan.open(tmp_path / "flat") as dump:
        assert any("stream ends" in problem.what for problem in dump.problems)


def test_an_envelope_around_nothing_is_an_error(tmp_path) -> None:
    (tmp_path / "flat").write_bytes(flattened([]))
    with pytest.raises(PhypanError):
        phypan.open(tmp_path / "flat")
