"""What is read back of a file: all of it, wherever it begins and ends, and from the disk."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.rescue.disk import DiskReader

DATA = os.urandom((9 << 20) + 1234)


@pytest.fixture(scope="module", params=[None, "/dev/shm"], ids=["disk", "tmpfs"])
def file(request):
    """A file on the disk, and one where nothing can be read past the page cache."""
    with tempfile.NamedTemporaryFile(dir=request.param, buffering=0) as made:
        made.write(DATA)
        os.fsync(made.fileno())
        yield made


def read(reader: DiskReader, at: int, size: int) -> bytes:
    return b"".join(bytes(piece) for piece in reader.pieces(at, size))


@given(at=st.integers(0, len(DATA) + 5000), size=st.integers(0, 10 << 20))
def test_any_range_is_that_of_the_file(file, at, size) -> None:
    reader = DiskReader(file.fileno())
    assert read(reader, at, size) == DATA[at : at + size]
    reader.close()


def test_it_is_asked_of_the_disk(file, monkeypatch) -> None:
    """Only with O_DIRECT is it the disk that answers; and on a disk nothing else is asked."""
    asked, real = [], os.preadv

    def preadv(fd, buffers, at):
        flags = Path(f"/proc/self/fdinfo/{fd}").read_text().split("flags:")[1].split()[0]
        asked.append(bool(int(flags, 8) & os.O_DIRECT))
        return real(fd, buffers, at)

    monkeypatch.setattr(os, "preadv", preadv)
    reader = DiskReader(file.fileno())
    direct = reader._direct >= 0
    assert read(reader, 5, 8 << 20) == DATA[5 : 5 + (8 << 20)]
    assert asked
    assert all(one == direct for one in asked)
    reader.close()


def test_a_disk_of_larger_blocks_is_read_through_the_page_cache(file, monkeypatch) -> None:
    real = os.preadv

    def preadv(fd, buffers, at):
        if fd == reader._direct:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fd, buffers, at)

    reader = DiskReader(file.fileno())
    monkeypatch.setattr(os, "preadv", preadv)
    assert read(reader, 0, len(DATA)) == DATA
    reader.close()


def test_a_disk_that_fails_is_no_reason_to_ask_the_page_cache(file, monkeypatch) -> None:
    def preadv(fd, buffers, at):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    reader = DiskReader(file.fileno())
    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(OSError, match="Input/output"):
        read(reader, 0, 10)
    reader.close()


def test_nothing_stays_open(file) -> None:
    before = os.listdir("/proc/self/fd")
    reader = DiskReader(file.fileno())
    read(reader, 0, 1)
    reader.close()
    assert os.listdir("/proc/self/fd") == before
