"""Parts go to the store several at a time, and count from the first one that it has on."""

from __future__ import annotations

import threading

import pytest

from phypan.errors import OutputError, Unreachable
from phypan.places import s3
from phypan.places.address import parsed

PART = s3._LEAST


class Store:
    """Takes parts when it is told to."""

    def __init__(self, address) -> None:
        self.may: dict[int, threading.Event] = {}
        self.parts: dict[int, bytes] = {}
        self.broken: set[int] = set()
        self.done: list[list[object]] = []
        self.dropped: list[str] = []

    def begin(self):
        return {"upload": "id", "token": "token"}

    def part(self, upload: str, number: int, data: bytes) -> str:
        assert upload == "id"
        if number in self.may:
            assert self.may[number].wait(20)
        if number in self.broken:
            raise Unreachable("it is down", where="store")
        self.parts[number] = data
        return f"etag {number}"

    def complete(self, upload: str, parts: list[list[object]]) -> None:
        self.done = parts

    def drop(self, upload: str) -> None:
        self.dropped.append(upload)

    def size(self) -> int:
        return sum(map(len, self.parts.values()))


@pytest.fixture
def store(monkeypatch) -> Store:
    made = Store(None)
    monkeypatch.setattr(s3, "_Store", lambda address: made)
    return made


def upload(place=(), size: int = 0) -> s3.S3Upload:
    return s3.S3Upload(parsed("s3://bucket/key"), dict(place), size)


def test_what_is_certain_ends_before_the_first_part_that_is_not_there(store) -> None:
    store.may = {1: threading.Event()}
    made = upload()
    for number in range(3):
        made.append(bytes([number]) * PART)
    assert made.confirm() == 0, "the second and third may be there, the first is not"
    assert made.state() == {"upload": "id", "parts": []}
    store.may[1].set()
    made.append(b"four" * (PART // 4))  # waits for the first
    assert made.confirm() >= PART
    told = made.state()["parts"]
    assert told[0] == [1, "etag 1", PART]
    made.append(b"the rest")
    made.finish()
    made.close()
    assert [number for number, *_ in store.done] == [1, 2, 3, 4, 5]
    assert store.parts[5] == b"the rest"
    whole = b"".join(part for _, part in sorted(store.parts.items()))
    assert whole == b"\0" * PART + b"\1" * PART + b"\2" * PART + b"four" * (PART // 4) + b"the rest"


def test_each_part_is_told_once_and_the_next_one_goes_on_behind_them(store) -> None:
    made = upload({"upload": "id"})
    parts = []
    for _ in range(6):
        made.append(bytes(PART))
        sent = made.confirm()
        parts += made.state()["parts"]
        assert sent == PART * len(parts)
    made.close()
    again = upload({"upload": "id", "parts": parts})
    assert again.confirm() == PART * len(parts)
    again.append(b"end")
    again.finish()
    again.close()
    assert [number for number, *_ in store.done] == list(range(1, len(parts) + 2))


def test_a_part_that_failed_is_never_counted(store) -> None:
    store.broken = {2}
    made = upload()

    def fill() -> None:
        for _ in range(8):
            made.append(bytes(PART))

    for _ in range(2):
        with pytest.raises(Unreachable):
            fill()
        assert made.confirm() == PART
    with pytest.raises(Unreachable):
        made.finish()
    made.close()
    assert store.done == []


def test_of_a_large_dump_there_are_not_more_parts_than_a_store_takes(store) -> None:
    for size in (0, 100 << 30, 1 << 40, 5 << 40):
        made = upload(size=size)
        assert made._part >= PART
        assert -(-size // made._part) <= 9900
        made.close()


def test_a_store_that_has_other_bytes_than_were_sent_is_found(store) -> None:
    store.size = lambda: 7
    made = upload()
    made.append(b"12345678")
    with pytest.raises(OutputError, match="the store has 7 bytes of 8"):
        made.finish()
    made.close()


def test_an_upload_that_nobody_can_go_on_with_is_dropped(store) -> None:
    """A store keeps what is unfinished, shows it to nobody, and has it paid for."""
    made = upload({"upload": "id"})
    made.append(bytes(PART))
    made.close()
    assert store.dropped == [], "it is in a journal"
    finished = upload()
    finished.append(b"all")
    finished.finish()
    finished.close()
    assert store.dropped == []
    made = upload()
    made.append(bytes(PART))
    made.close()
    made.close()
    assert store.dropped == ["id"]


def test_that_it_cannot_be_dropped_hides_nothing(store) -> None:
    def down(upload: str) -> None:
        raise Unreachable("it is down", where="store")

    store.drop = down
    upload().close()
