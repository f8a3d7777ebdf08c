"""Runs a process up to its N-th system call, and kills it there: by ptrace, from the outside.

What the kernel was asked before that call is done, what comes after it is not; Python, its threads
and its buffers have no say in it, as little as in a SIGKILL by the out-of-memory killer.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from functools import cache

_TRACEME, _SYSCALL, _SETOPTIONS = 0, 24, 0x4200
_SYSGOOD, _CLONE, _EXITKILL = 1, 8, 1 << 20  # options
_WALL, _NO_THREAD = 0x40000000, 0x20000000  # for waitpid(): threads too, of this thread only
_STOPPED_AT_CALL = signal.SIGTRAP | 0x80

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    if _libc.ptrace(request, pid, 0, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def wait_for_tracer() -> None:
    """In the process: stop, and let the parent trace it from here on."""
    _ptrace(_TRACEME, 0)
    os.kill(os.getpid(), signal.SIGSTOP)


def run(pid: int, kill_at: int | None) -> tuple[int, int]:
    """(exit status as waitpid() tells it, system calls that were begun) of a child.

    kill_at  it is killed before its call of this number, from 0 on; None: never
    """
    os.waitpid(pid, 0)
    _ptrace(_SETOPTIONS, pid, _SYSGOOD | _CLONE | _EXITKILL)
    _ptrace(_SYSCALL, pid)
    calls, inside = 0, set()  # threads that are in a call
    while True:
        thread, status = os.waitpid(-1, _WALL | _NO_THREAD)
        if not os.WIFSTOPPED(status):
            if thread == pid:
                return status, calls
            continue
        what = os.WSTOPSIG(status)
        if what == _STOPPED_AT_CALL:
            if thread not in inside and calls == kill_at:
                os.kill(pid, signal.SIGKILL)
                continue
            calls += thread not in inside
            inside ^= {thread}
            what = 0
        elif what in (signal.SIGTRAP, signal.SIGSTOP):  # a new thread, told by both sides
            what = 0
        try:
            _ptrace(_SYSCALL, thread, what)
        except ProcessLookupError:  # it was killed meanwhile
            continue


@cache
def forbidden() -> str | None:
    """Why processes cannot be traced here."""
    if not sys.platform.startswith("linux"):
        return "no Linux"
    pid = os.fork()
    if not pid:
        try:
            wait_for_tracer()
        finally:
            os._exit(0)
    try:
        run(pid, None)
    except OSError as error:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return f"processes cannot be traced here: {error}"
    return None
