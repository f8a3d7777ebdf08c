"""A stream that was cut anywhere is gone on with: the same stream, and the same file inside."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from phypan import BytesStore, SealedStore, write_pair
from phypan.places.flat import Appended, Flat
from phypan.places.sealed import Sealed, sealed_size
from phypan.plugins.sources.flattened import FlattenedStore
from phypan.sealing.chunks import CHUNK, Seal
from phypan.sealing.keys import recipients
from tests.places.memory import InMemory

PUTS = st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=4000)), max_size=12)


def laid_out(puts) -> list[tuple[int, bytes]]:
    """File offsets that ascend, with zeros between what is put."""
    found, at = [], 0
    for gap, data in puts:
        at += gap
        found.append((at, data))
        at += len(data)
    return found


def image(puts, size: int) -> bytes:
    data = bytearray(size)
    for at, part in puts:
        data[at : at + len(part)] = part
    return bytes(data)


def inside(stream: bytes, size: int) -> bytes:
    store = FlattenedStore(BytesStore(stream))
    assert not store.problems
    assert store.size == size
    return bytes(store.view(0, size))


def filled(flat: Flat, puts, size: int) -> None:
    for at, data in puts:
        flat.put(at, data)
    flat.finish(size)


@given(PUTS, st.integers(1, 5000))
def test_the_file_inside_is_what_was_put(puts, more) -> None:
    puts, stream = laid_out(puts), InMemory()
    size = max((at + len(data) for at, data in puts), default=0) + more
    filled(Flat(stream, {}), puts, size)
    assert stream.finished
    assert inside(stream.data, size) == image(puts, size)


@given(PUTS.filter(len), st.data())
def test_it_is_gone_on_with_where_the_stream_is_certain(puts, data) -> None:
    puts = laid_out(puts)
    size = puts[-1][0] + len(puts[-1][1]) + 1
    whole = InMemory()
    filled(Flat(whole, {}), puts, size)

    stream = InMemory()
    flat = Flat(stream, {})
    count = data.draw(st.integers(0, len(puts)))
    for at, part in puts[:count]:
        flat.put(at, part)
    stream.certain = data.draw(st.integers(4096, len(stream.data)))
    certain = flat.confirm()
    place = json.loads(json.dumps(certain.place))
    assert place["sent"] == stream.certain
    left = [put for put in puts if put[0] >= certain.at]
    lost = image([put for put in puts if put[0] < certain.at], size)[: certain.at]
    assert lost == image(puts, size)[: certain.at], "all below is certain"

    again = InMemory(stream.data[: stream.certain])
    other = data.draw(st.booleans()) and len(left) > 0
    if other:  # more cannot be read than before: other records, over more of the file
        at, part = left[0]
        left[0] = (at, part + b"UNREADABLE HERE\n")
        size = max(size, at + len(left[0][1]) + 1)
    filled(Flat(again, place), left, size)
    if not other:
        assert again.data == whole.data
    puts = [*[put for put in puts if put[0] < certain.at], *left]
    assert inside(again.data, size) == image(puts, size)


@given(st.lists(st.binary(min_size=1, max_size=50_000), max_size=9), st.data())
def test_what_is_sealed_is_gone_on_with_behind_whole_chunks(tmp_path_factory, parts, data) -> None:
    folder = tmp_path_factory.mktemp("sealed")
    seal = Seal.new(recipients([write_pair(folder / "key")]))
    stream = InMemory()
    sealed = Sealed(stream, seal)
    for part in parts:
        sealed.append(part * 5)
    plain = b"".join(part * 5 for part in parts)
    stream.certain = data.draw(st.integers(0, len(stream.data)))
    at = sealed.confirm()
    assert at % CHUNK == 0
    assert at <= len(plain)

    again = InMemory(stream.data[: sealed_size(seal, at)])
    more = Sealed(again, seal, at=at)
    more.append(plain[at:])
    more.finish()
    store = SealedStore(BytesStore(bytes(again.data)), [folder / "key"])
    assert store.view(0, store.size) == plain


class _File:
    """A target in memory."""

    name, rewritable = "file", True

    def __init__(self) -> None:
        self.data, self.confirmed = bytearray(), 0

    def put(self, at: int, data: bytes) -> None:
        assert at == len(self.data)
        self.data += data

    def confirm(self) -> None:
        self.confirmed = len(self.data)

    def finish(self, size: int) -> None:
        assert size == len(self.data)

    def close(self) -> None:
        self.data.clear()


def test_a_target_takes_a_stream_from_front_to_back() -> None:
    file = _File()
    stream = Appended(file)
    stream.append(b"one", memoryview(b"two"))
    assert stream.confirm() == file.confirmed == 6
    stream.append(b"three")
    stream.finish()
    assert file.data == b"onetwothree"
    assert stream.state() == {}
