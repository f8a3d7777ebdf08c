"""Damaged bytes: cut short, with extreme numbers, with flipped bits; readers must bear them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from hypothesis import strategies as st

from phypan.errors import PhypanError
from phypan.formats._records import ByteOrder


def refused(read: Callable[[bytes], object], damaged: Iterable[bytes]) -> int:
    """How many of `damaged` are refused by `read`. The others it reads; nothing else may happen."""
    count = 0
    for data in damaged:
        try:
            read(data)
        except PhypanError:
            count += 1
        except Exception as error:
            raise AssertionError(f"{len(data)} bytes: {data[:200].hex()}") from error
    return count


def cut_short(data: bytes) -> list[bytes]:
    """`data` cut at each of its bytes, from nothing to all but the last."""
    return [data[:size] for size in range(len(data))]


def extremes(width: int) -> list[int]:
    """The numbers of `width` bytes at which arithmetic goes wrong."""
    top = 1 << 8 * width
    return [0, 1, 2, top // 2 - 1, top // 2, (top - 4096) % top, top - 2, top - 1]


def words_at_extremes(data: bytes, width: int, order: ByteOrder, size: int | None = None):
    """`data` with each aligned word of `width` bytes in its first `size` at each extreme value."""
    return list(_words(data, width, order, len(data) if size is None else size))


def _words(data: bytes, width: int, order: ByteOrder, size: int) -> Iterator[bytes]:
    for at in range(0, size - width + 1, width):
        for value in extremes(width):
            yield data[:at] + value.to_bytes(width, order) + data[at + width :]


@st.composite
def flipped(draw: st.DrawFn, data: bytes, most: int = 8) -> bytes:
    """`data` with some bits flipped, and perhaps cut short."""
    damaged = bytearray(data)
    for at in draw(st.lists(st.integers(0, 8 * len(data) - 1), min_size=1, max_size=most)):
        damaged[at // 8] ^= 1 << at % 8
    return bytes(damaged[: draw(st.integers(0, len(data)) | st.just(len(data)))])
