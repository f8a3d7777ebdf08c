"""Patience: what a place refused is tried again, at growing intervals, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from phypan.errors import Unreachable

_LONGEST = 60.0  # seconds between two attempts
Result = TypeVar("Result")


def silent(line: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Patience:
    """How often something is tried again.

    retries  in a row, without anything that got done in between
    wait     seconds before the first; each is twice as long as the one before, but 60 at the most
    report   called with a line for a person before each wait
    """

    retries: int = 8
    wait: float = 1.0
    report: Callable[[str], None] = silent

    def call(self, attempt: Callable[[], Result], done: Callable[[], object] = bool) -> Result:
        """What `attempt` returns, once it does. Unreachable when that takes too many retries.

        done  tells how far things got; when that has changed, retries are counted anew
        """
        failed, before = 0, done()
        while True:
            try:
                return attempt()
            except Unreachable as error:
                now = done()
                failed, before = (1, now) if now != before else (failed + 1, before)
                if failed > self.retries:
                    raise
                delay = min(self.wait * 2 ** (failed - 1), _LONGEST)
                again = f"trying again in {delay:.3g} s ({failed} of {self.retries})"
                self.report(f"{error}; {again}")
                time.sleep(delay)
