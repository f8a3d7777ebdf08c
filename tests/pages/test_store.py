"""The store of decoded pages: what it gives, what it keeps, many threads at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan import InputError, PageStore

SIZE, COUNT = 256, 40


class Reader:
    """Pages that say who they are; counts how often each is decoded."""

    def __init__(self) -> None:
        self.decoded: list[int] = []
        self.lock = threading.Lock()

    def page(self, number: int) -> bytes:
        with self.lock:
            self.decoded.append(number)
        return bytes([number]) * SIZE

    def data(self, first: int, last: int):
        return ((number, 1) for number in range(first, last) if number % 3)

    def close(self) -> None:
        pass


def _store(cache: int = 4 * SIZE) -> tuple[PageStore, Reader]:
    reader = Reader()
    return PageStore("pages", reader, COUNT, SIZE, cache), reader


ALL = b"".join(bytes([number]) * SIZE for number in range(COUNT))


@given(st.integers(0, COUNT * SIZE), st.integers(0, 5 * SIZE))
def test_bytes_are_those_of_the_pages(offset: int, size: int) -> None:
    store, _ = _store()
    if offset + size > store.size:
        with pytest.raises(InputError):
            store.view(offset, size)
        return
    assert store.view(offset, size) == ALL[offset : offset + size]
    buffer = bytearray(size)
    store.readinto(offset, memoryview(buffer))
    assert buffer == ALL[offset : offset + size]
    covered = {n for start, count in store.data(offset, size) for n in range(start, start + count)}
    assert covered == {n for n in range(offset, offset + size) if n // SIZE % 3}


def test_no_more_is_kept_than_was_allowed_and_the_latest_stay() -> None:
    store, reader = _store(3 * SIZE)
    for number in (0, 1, 2, 0, 3):  # 1 is the one that was not used for longest
        store.view(number * SIZE, 1)
    assert len(store._cache) == 3
    reader.decoded.clear()
    for number in (0, 2, 3):
        store.view(number * SIZE, 1)
    assert reader.decoded == []
    store.view(SIZE, 1)
    assert reader.decoded == [1]
    small, _ = _store(1)
    small.view(0, 1)
    assert len(small._cache) == 1


def test_what_is_read_in_bulk_fills_no_cache() -> None:
    store, _ = _store()
    store.readinto(0, memoryview(bytearray(COUNT * SIZE)))
    assert len(store._cache) == 0


def test_many_threads_get_the_right_bytes() -> None:
    store, _ = _store(5 * SIZE)

    def read(seed: int) -> bool:
        offsets = ((seed * 7919 + n * 104729) % (COUNT * SIZE - 600) for n in range(400))
        return all(store.view(at, 600) == ALL[at : at + 600] for at in offsets)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(16)))
    assert len(store._cache) <= 5
