"""Measuring: alternate two things, take medians, print the ratio."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence


def alternate(one: Callable[[], float], two: Callable[[], float], rounds: int = 5) -> float:
    """Median of one's seconds divided by two's, round by round: drift of the machine cancels."""
    ratios, ones, twos = [], [], []
    one(), two()  # once for nothing: caches, compilers
    for _ in range(rounds):
        ones.append(one())
        twos.append(two())
        ratios.append(ones[-1] / twos[-1])
    print(
        f"   {statistics.median(ones):8.3f} s against {statistics.median(twos):8.3f} s, "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    return statistics.median(ratios)


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def command(words: Sequence[str | os.PathLike[str]]) -> tuple[float, int]:
    """(seconds, peak resident KiB) of a command, as the operating system accounts for it.

    Python may keep what it compiles, as it does where phypan is installed.
    """
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    run = [os.fspath(word) for word in words]
    begin = time.perf_counter()
    process = subprocess.Popen(run, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, words
    return time.perf_counter() - begin, usage.ru_maxrss


def peak() -> int:
    """Peak resident KiB of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
