"""Stores give the bytes that are there, and never zeros in place of others."""

from __future__ import annotations

import gc
import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import InputError
from phypan.stores import BytesStore, FileStore

HOLE = 1 << 20


@pytest.fixture
def sparse(folder):
    """A file of 5 MiB with data at 1 and at 3 MiB, and holes around them."""
    path = folder / "sparse"
    with path.open("wb") as file:
        for start in (HOLE, 3 * HOLE):
            file.seek(start)
            file.write(bytes(range(1, 255)) * 1000)
        file.truncate(5 * HOLE)
    return path


def test_a_file_is_read_by_view_and_by_readinto(sparse) -> None:
    whole = sparse.read_bytes()
    with FileStore(sparse) as store:
        assert store.size == len(whole)
        for offset, size in ((0, 10), (HOLE - 5, 4096), (store.size - 1, 1), (7, 0)):
            assert bytes(store.view(offset, size)) == whole[offset : offset + size]
            buffer = bytearray(size)
            store.readinto(offset, memoryview(buffer))
            assert buffer == whole[offset : offset + size]
        assert store.view(0, 1).readonly


def test_what_is_not_in_data_is_zeros(sparse) -> None:
    whole = sparse.read_bytes()
    with FileStore(sparse) as store:
        parts = list(store.data(0, store.size))
        assert parts, "and there is some"
        assert sum(size for _, size in parts) < store.size, "this file system knows holes"
        again = bytearray(store.size)
        for offset, size in parts:
            again[offset : offset + size] = whole[offset : offset + size]
        assert again == whole


@given(st.data())
def test_data_stays_inside_of_the_range_asked_for(data) -> None:
    with FileStore(__file__) as store:
        offset = data.draw(st.integers(0, store.size))
        size = data.draw(st.integers(0, store.size - offset))
        parts = list(store.data(offset, size))
        assert all(offset <= at and length > 0 for at, length in parts)
        assert sum(length for _, length in parts) == size, "a text file has no holes"


@pytest.mark.parametrize(("offset", "size"), [(0, 11), (10, 1), (-1, 1), (5, -1), (1 << 64, 1)])
@pytest.mark.parametrize("kind", ["file", "bytes"])
def test_reading_beyond_the_end_is_an_error(folder, kind, offset, size) -> None:
    (folder / "ten").write_bytes(b"0123456789")
    store = FileStore(folder / "ten") if kind == "file" else BytesStore(b"0123456789", "ten")
    with pytest.raises(InputError, match="ten"):
        store.view(offset, size)
    if size > 0:
        with pytest.raises(InputError, match="ten"):
            store.readinto(offset, memoryview(bytearray(size)))
    store.close()


def test_an_empty_file_has_no_bytes(folder) -> None:
    (folder / "empty").touch()
    with FileStore(folder / "empty") as store:
        assert (store.size, bytes(store.view(0, 0)), list(store.data(0, 0))) == (0, b"", [])
        with pytest.raises(InputError):
            store.view(0, 1)


def test_a_directory_is_no_store(folder) -> None:
    with pytest.raises(InputError, match="Is a directory") as caught:
        FileStore(folder)
    assert caught.value.hint


def test_a_missing_file(folder) -> None:
    with pytest.raises(InputError, match="No such file") as caught:
        FileStore(folder / "nothing")
    assert caught.value.hint == "check the path"


def test_a_fifo_is_refused_and_not_waited_for(folder) -> None:
    os.mkfifo(folder / "fifo")
    done = threading.Event()
    caught: list[InputError] = []

    def look() -> None:
        try:
            FileStore(folder / "fifo")
        except InputError as error:
            caught.append(error)
        done.set()

    threading.Thread(target=look, daemon=True).start()
    assert done.wait(5), "it waits for a writer"
    assert "neither a file nor a block device" in str(caught[0])


def test_a_character_device_is_no_store() -> None:
    with pytest.raises(InputError, match="neither a file nor a block device"):
        FileStore("/dev/null")


def test_a_block_device_is_read(folder) -> None:
    """Any will do, of which there is one that can be read: nothing is written."""
    devices = [path for path in os.scandir("/dev") if stat.S_ISBLK(path.stat().st_mode)]
    for device in devices:
        try:
            with open(device.path, "rb") as file:
                first = file.read(512)
        except OSError:
            continue
        if len(first) == 512:
            with FileStore(device.path) as store:
                assert store.size >= 512
                assert bytes(store.view(0, 512)) == first
                assert next(iter(store.data(0, 512))) == (0, 512)
            return
    pytest.skip("no block device can be read here")


def test_an_unreadable_file_says_whose_it_is(folder, unprivileged) -> None:
    path = folder / "secret"
    path.write_bytes(b"x")
    path.chmod(0)

    def look() -> str:
        try:
            FileStore("secret")
        except InputError as error:
            return f"{error} | {error.hint}"
        return "it could be read"

    assert unprivileged(look, folder) == (
        "secret: Permission denied | "
        "dumps are readable by their owner only: run as that user or as root"
    )


def test_a_file_that_has_become_shorter_is_an_error_and_not_zeros(folder) -> None:
    path = folder / "shrinks"
    path.write_bytes(b"\xff" * (3 * 65536))
    with FileStore(path) as store:
        os.truncate(path, 65536)
        assert bytes(store.view(0, 65536)) == b"\xff" * 65536, "what is left can be read"
        for read in (
            lambda: store.view(65536, 65536),
            lambda: store.readinto(65536, memoryview(bytearray(10))),
            lambda: list(store.data(0, 3 * 65536)),
            lambda: list(store.data(65536, 65536)),
        ):
            with pytest.raises(InputError, match="shorter"):
                read()


def test_a_closed_store_says_so(folder) -> None:
    (folder / "f").write_bytes(b"abc")
    store = FileStore(folder / "f")
    view = store.view(0, 3)
    store.close()
    store.close()
    assert bytes(view) == b"abc", "a view that is in use stays what it is"
    for read in (
        lambda: store.view(0, 1),
        lambda: store.readinto(0, memoryview(bytearray(1))),
        lambda: list(store.data(0, 1)),
    ):
        with pytest.raises(InputError, match="closed"):
            read()


def test_no_descriptor_is_left_behind(folder) -> None:
    (folder / "f").write_bytes(b"abc")
    gc.collect()  # what other tests left
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        FileStore(folder / "f").close()
        for bad in (folder, "/dev/null", folder / "none"):
            with pytest.raises(InputError):
                FileStore(bad)
    assert len(os.listdir("/proc/self/fd")) == before


def test_bytes_are_a_store_too() -> None:
    store = BytesStore(bytearray(b"0123456789"))
    buffer = bytearray(4)
    store.readinto(3, memoryview(buffer))
    assert buffer == b"3456"
    assert bytes(store.view(8, 2)) == b"89"
    assert store.view(0, 1).readonly
    assert list(store.data(2, 5)) == [(2, 5)]
    assert list(store.data(2, 0)) == []
