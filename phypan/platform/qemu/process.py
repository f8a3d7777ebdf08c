"""QEMU as a child process: started with its ends of sockets and files, and never left behind.

It dies with phypan: on an error or Ctrl-C because it is killed on the way out, and when phypan
itself is killed because the kernel sends it SIGKILL then (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from phypan.errors import PhypanError

_PR_SET_PDEATHSIG = 1
_GRACE = 10  # seconds that a process may take to end


@asynccontextmanager
async def running(
    words: Sequence[str], *, log: Path, files: Sequence[int]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, which inherits `files`; what it prints goes to `log`.

    It is in a session of its own, so that Ctrl-C reaches phypan alone, and is killed with all that
    it started when the context is left.
    """
    with log.open("wb") as out:
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=tuple(files),
                start_new_session=True,
                preexec_fn=_dies_with_parent(),
            )
        except OSError as error:
            raise PhypanError(error.strerror or str(error), where=words[0]) from error
    try:
        yield process
    finally:
        await _end(process)


def _dies_with_parent() -> Callable[[], None]:
    """What the child does before it becomes another program. Nothing is imported after the fork."""
    libc, parent = ctypes.CDLL(None, use_errno=True), os.getpid()

    def child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it had gone already
            os._exit(1)

    return child


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process and its group, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(process.wait()), _GRACE)
