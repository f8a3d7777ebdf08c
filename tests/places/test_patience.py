"""What a place refused is tried again, at growing intervals, and not for ever."""

from __future__ import annotations

import pytest

from phypan.errors import OutputError, Unreachable
from phypan.places.patience import Patience


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr("phypan.places.patience.time.sleep", made.append)
    return made


def failing(times: int, kind: type[OutputError] = Unreachable):
    left = [kind("it is down", where="host")] * times

    def attempt() -> str:
        if left:
            raise left.pop()
        return "done"

    return attempt


def test_what_works_is_done_once(waits) -> None:
    assert Patience().call(failing(0)) == "done"
    assert waits == []


def test_each_wait_is_twice_as_long_up_to_a_minute(waits) -> None:
    lines: list[str] = []
    assert Patience(8, 1.0, lines.append).call(failing(8)) == "done"
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert lines[0] == "host: it is down; trying again in 1 s (1 of 8)"
    assert lines[-1] == "host: it is down; trying again in 60 s (8 of 8)"


def test_it_ends(waits) -> None:
    with pytest.raises(Unreachable, match="it is down"):
        Patience(3).call(failing(4))
    assert len(waits) == 3
    with pytest.raises(Unreachable):
        Patience(0).call(failing(1))
    assert len(waits) == 3


def test_what_got_done_in_between_starts_the_count_anew(waits) -> None:
    progress = iter([0, 0, 1, 2, 2, 3])  # before, and at each of five failures
    assert Patience(2, 1.0).call(failing(5), lambda: next(progress)) == "done"
    assert waits == [1, 1, 1, 2, 1]


def test_what_no_waiting_mends_is_not_waited_for(waits) -> None:
    with pytest.raises(OutputError, match="it is down"):
        Patience().call(failing(1, OutputError))
    assert waits == []
