"""Blocks allocated ahead of a writer leave no trace: neither in the bytes nor on the disk."""

from __future__ import annotations

import errno
import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan import allocation
from phypan.errors import OutputError
from phypan.sinks import FileOutput

STEP = 1 << 16


@pytest.fixture(scope="module", autouse=True)
def small_steps():
    patch = pytest.MonkeyPatch()
    patch.setattr(allocation, "_STEP", STEP)
    yield
    patch.undo()


def written(path, pieces) -> None:
    with FileOutput(path, force=True) as output:
        for offset, data in pieces:
            output.write_at(offset, data)
        output.truncate(max((offset + len(data) for offset, data in pieces), default=0))


# (bytes left out before it, bytes written)
stretches = st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, STEP, 5 * STEP]),
                               st.integers(1, 2 * STEP)), max_size=12)  # fmt: skip


@given(stretches)
def test_a_file_takes_no_more_room_than_one_written_without(tmp_path_factory, shape) -> None:
    folder = tmp_path_factory.mktemp("files")
    pieces, at = [], 0
    for gap, size in shape:
        at += gap
        pieces.append((at, bytes([1 + at % 255]) * size))
        at += size
    written(folder / "ahead", pieces)
    with (folder / "plain").open("wb") as plain:
        for offset, data in pieces:
            os.pwrite(plain.fileno(), data, offset)
        os.fsync(plain.fileno())
    ahead, plain = folder / "ahead", folder / "plain"
    assert ahead.read_bytes() == plain.read_bytes()
    # but for what the file system notes of more stretches: sectors, of which a step has 128
    assert ahead.stat().st_blocks <= plain.stat().st_blocks + 32


def test_blocks_are_allocated_where_writing_goes_on(tmp_path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(allocation, "_fallocate", lambda *words: asked.append(words[1:]) or True)
    block = bytes(STEP // 4)
    with FileOutput(tmp_path / "file") as output:
        for number in range(12):
            output.write_at(number * len(block), block)
            output.write_at(number, b"!")  # somewhere before it, as descriptors are
    ahead = [(offset, size) for mode, offset, size in asked if mode == allocation._KEEP_SIZE]
    assert ahead[0] == (STEP, STEP)
    assert all(a[0] + a[1] == b[0] for a, b in pairwise(ahead))
    punched = [(offset, size) for mode, offset, size in asked if mode != allocation._KEEP_SIZE]
    assert punched == [(3 * STEP, ahead[-1][0] + STEP - 3 * STEP)]


def test_room_that_is_needed_is_given_back_first(tmp_path, monkeypatch) -> None:
    held = 0
    write = os.pwrite

    def fallocate(descriptor, mode, offset, size):
        nonlocal held
        held += -size if mode & allocation._PUNCH_HOLE else size
        return True

    def pwrite(descriptor, data, offset):
        if held > 0 and offset < STEP:  # a hole before it, for which nothing is left
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data, offset)

    monkeypatch.setattr(allocation, "_fallocate", fallocate)
    monkeypatch.setattr(os, "pwrite", pwrite)
    with FileOutput(tmp_path / "file") as output:
        output.write_at(STEP, bytes(2 * STEP))
        assert held > 0
        output.write_at(0, b"descriptors")
        assert held == 0
    assert (tmp_path / "file").read_bytes()[:11] == b"descriptors"


def test_a_full_disk_is_told(tmp_path, monkeypatch) -> None:
    def pwrite(descriptor, data, offset):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OutputError, match="No space left"), FileOutput(tmp_path / "f") as output:
        output.write_at(0, b"x")


def test_without_fallocate_files_are_written_all_the_same(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(allocation, "_libc", object)
    written(tmp_path / "file", [(0, b"a" * 3 * STEP), (9 * STEP, b"b")])
    assert (tmp_path / "file").read_bytes() == b"a" * 3 * STEP + bytes(6 * STEP) + b"b"
