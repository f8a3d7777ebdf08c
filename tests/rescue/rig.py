"""A second boot as plain files, captures that run in processes of their own, and their faults.

The model lives in the test's process and outlives every capture. Each capture is a fork: it can be
killed before any call that changes something, torn in the middle of a write, or have its power cut,
whereupon what it had not made durable is gone and the system boots again. What the capture asks the
kernel to free goes through a socket to the model, which looks at what is in the target before it
lets go of a page: `unsaved` counts the bytes that were not there.
"""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
import random
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import phypan
from phypan.formats import elfcore
from phypan.live import system as live
from phypan.platform import second_boot
from phypan.platform.second_boot import FREED, SecondBoot
from tests.rescue import tracing

CHANGING = ("pwrite", "write", "fsync", "ftruncate", "replace", "unlink", "mkdir", "fchmod")
REGISTERED = "sys/kernel/fadump/registered"
BLOCK = 1 << 16
PAGE = 4096
_ZEROS = bytes(BLOCK)


def _preload() -> None:
    """Import what captures do, so that not each of hundreds of processes has to."""
    from phypan import api
    from phypan.rescue import capture  # noqa: F401

    assert api.registry().sources
    assert api.registry().writers


_preload()


def scratch(name: str = "") -> Path:
    """A new folder, in memory where that can be: what is durable is the rig's business.

    Its name is always the same for a process, as it is in files that are to be compared.
    """
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
    folder = Path(place) / f"phypan-{os.getpid()}{name}"
    shutil.rmtree(folder, ignore_errors=True)  # of a process of that number, before
    folder.mkdir()
    return folder


@dataclass
class Outcome:
    """How a capture ended: its result, or what it said, or that it was killed."""

    code: int
    calls: int
    result: phypan.Captured | None = None
    error: str | None = None
    hint: str | None = None


@dataclass
class World:
    """The partition in its second boot, and the disk that captures write to."""

    folder: Path
    boot: SecondBoot
    before: Any
    address: Path | None = None  # the unfinished file that is to hold what is freed
    unsaved: int = 0
    freed: int = 0
    flags: bool = True  # whether there is /proc/kpageflags
    left_out: frozenset[int] = frozenset()  # frames of 4096 bytes that nobody wants to be saved
    lost_power: list[Callable[[], None]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def target(self) -> Path:
        return self.folder / "disk" / "vmcore"

    @classmethod
    def of(cls, simulation: Any, name: str = "") -> World:
        own = copy.deepcopy(simulation.boot)
        world = cls(scratch(name), own, simulation.before)
        own.on_free = world._look
        (world.folder / "disk").mkdir()
        world.root.mkdir()
        world.write()
        return world

    def clean(self) -> None:
        shutil.rmtree(self.folder)

    # -- the files ------------------------------------------------------------------------------

    def write(self) -> None:
        """Put down all files as they are now; /proc/vmcore of phyp's kernel with its holes."""
        shutil.rmtree(self.root)
        for name, file in self.boot.files().items():
            if name == "proc/kpageflags" and not self.flags:
                continue
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name == "proc/vmcore" and self.boot.phyp:
                self.boot.lpar.memory.save(path)
            elif name == "proc/vmcore":
                self._write_sparse(path, file)
            else:
                path.write_bytes(file.read(0, 1 << 26) if file.read else b"")

    @staticmethod
    def _write_sparse(path: Path, file: Any) -> None:
        with path.open("wb") as out:
            for at in range(0, file.size, 1 << 20):
                data = file.read(at, 1 << 20)
                if data.strip(b"\0"):
                    out.seek(at)
                    out.write(data)
            out.truncate(file.size)

    def asked(self, name: str, data: bytes) -> int:
        """Somebody writes to a file of the kernel's; 0 or an errno."""
        before = list(self.boot.released)
        try:
            self.boot.files()[name].write(data)
        except (KeyError, phypan.PhypanError):
            return errno.EINVAL
        for start, size in self.boot.released[len(before) :]:
            self._spoil(start, start + size)
        flags = self.boot.files()["proc/kpageflags"].read(0, 1 << 26)
        if self.flags:
            (self.root / "proc/kpageflags").write_bytes(flags)
        shown = self.boot.files()
        for path in (name, "proc/vmcore"):
            if path not in shown:
                (self.root / path).unlink(missing_ok=True)
        if REGISTERED in shown:
            (self.root / REGISTERED).write_bytes(shown[REGISTERED].read(0, 8))
        return 0

    def _spoil(self, start: int, end: int) -> None:
        """Show that memory is somebody else's where it held something, and at its borders."""
        if not self.boot.phyp:
            return
        with (self.root / "proc/vmcore").open("r+b") as file:
            for at in sorted({start, end - 4096, *self._used(start, end)}):
                file.seek(at)
                file.write(bytes([FREED]) * min(4096, end - at))

    def _used(self, start: int, end: int) -> Iterator[int]:
        for at, _ in self.before.chunks(start, end):
            yield at

    # -- what is freed, is it safe? -------------------------------------------------------------

    def _look(self, start: int, end: int) -> None:
        """Count what is about to be freed, and what of it is not in the target as it was."""
        self.freed += end - start
        saved = _Saved.open(self.target)
        try:
            self._look_at(saved, start, end)
        finally:
            if saved:
                saved.close()

    def _look_at(self, saved: Any, start: int, end: int) -> None:
        layout = self.boot.layout
        copied = (layout.copy, layout.copy + layout.boot_memory)
        tail = copied[1]
        if not self.boot.phyp:  # the page with the crash info header is no memory of the dump
            tail = -(-layout.end // self.boot.guest.page_size) * self.boot.guest.page_size
        for low, high, paddr in _physical(start, end, layout.start, copied, tail):
            shift, blocks = paddr - low, {paddr // BLOCK * BLOCK}
            blocks |= {at // BLOCK * BLOCK for at, _ in self.before.chunks(paddr, high + shift)}
            blocks |= saved.used(paddr, high + shift) if saved else set()
            for block in blocks:  # in all others there are zeros, on both sides
                first, last = max(block, paddr), min(block + BLOCK, high + shift)
                there = saved.read(first, last - first) if saved else None
                if there != self.before.read(first, last - first):
                    self.unsaved += self._unsaved(saved, first, last)

    def _unsaved(self, saved: Any, start: int, end: int) -> int:
        """Bytes that somebody wants, and that are not in the target as they were."""
        missing = 0
        for at in range(start, end, PAGE):
            size = min(PAGE, end - at)
            there = saved.read(at, size) if saved else None
            wanted = at // PAGE not in self.left_out
            missing += size if wanted and there != self.before.read(at, size) else 0
        return missing

    def reboot(self) -> None:
        """The second kernel is gone, and another one boots: all is held back again."""
        self.boot = second_boot.again(self.boot)
        self.write()

    # -- captures -------------------------------------------------------------------------------

    def capture(
        self,
        *,
        kill_at: int | None = None,
        torn: bool = False,
        power: int | None = None,
        fail: int | None = None,
        traced: bool = False,
        releases: int | None = None,
        patch: Callable[[], None] | None = None,
        **options: Any,
    ) -> Outcome:
        """Capture to the target in a process of its own.

        kill_at  dies before its call of this number that changes something (from 0 on)
        fail     errno: it does not die there, but that call and all after it fail
        traced   it is any system call, counted and killed from the outside
        releases dies when it has given memory back that often
        torn     half of that call is done, if it is a write
        power    seed: what was not durable when it died may be gone, and the system boots again
        patch    called in the process before it begins
        """
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            try:
                ours.close()
                if traced:
                    tracing.wait_for_tracer()
                faults = _Faults(theirs, None if traced else kill_at, torn, power, fail)
                faults.releases = releases
                _child(self, faults, patch, options)
            finally:
                os._exit(70)
        theirs.close()
        with ThreadPoolExecutor(1) as others:
            serving = others.submit(self._serve, ours)
            if traced:
                status, begun = tracing.run(pid, kill_at)
            else:
                _, status = os.waitpid(pid, 0)
            result, error, hint, calls, undo = serving.result()
        ours.close()
        calls = begun if traced else calls
        if undo is not None:
            for action in undo:
                _undo(action)
            self.reboot()
        return Outcome(os.waitstatus_to_exitcode(status), calls, result, error, hint)

    def _serve(self, channel: socket.socket) -> tuple[Any, Any, Any, int, Any]:
        result = error = hint = undo = None
        calls = 0
        with channel.makefile("rb") as told:
            while True:
                try:
                    kind, *more = pickle.load(told)
                except (EOFError, ConnectionResetError):
                    return result, error, hint, calls, undo
                if kind == "asked":
                    with suppress(BrokenPipeError, ConnectionResetError):  # it died meanwhile
                        channel.sendall(bytes([self.asked(*more)]))
                elif kind == "end":
                    result, error, hint, calls = more
                else:
                    (undo,) = more


def _physical(
    first: int, last: int, area: int, copied: tuple[int, int], tail: int
) -> Iterator[Any]:
    """(start, end, physical address of the crashed partition) of what is dump in a range."""
    if first < area:
        yield first, min(last, area), first
    low, high = max(first, copied[0]), min(last, copied[1])
    if low < high:
        yield low, high, low - copied[0]
    if last > tail:
        yield max(first, tail), last, max(first, tail)


class Compressed:
    """What of the crashed partition's memory a compressed dump holds, finished or not."""

    def __init__(self, path: Path) -> None:
        self._dump = phypan.open(path)

    def close(self) -> None:
        self._dump.close()

    def used(self, start: int, end: int) -> set[int]:
        return set()  # it is compared where there was something

    def read(self, paddr: int, size: int) -> bytes:
        try:
            return self._dump.memory.read(paddr, size)
        except phypan.NotInDump:
            return b""


class _Saved:
    """What of the crashed partition's memory a target holds, finished or not."""

    @classmethod
    def open(cls, target: Path) -> _Saved | Compressed | None:
        for path in (target, target.with_name(target.name + ".incomplete")):
            if path.exists():
                with path.open("rb") as file:
                    elf = file.read(4) == elfcore.MAGIC
                return cls(path) if elf else Compressed(path)
        return None

    def __init__(self, path: Path) -> None:
        self._data = path.open("rb", buffering=0)

        def read_at(at: int, size: int) -> bytes:
            return os.pread(self._data.fileno(), size, at)

        self._loads = elfcore.read(read_at, path.stat().st_size).loads

    def close(self) -> None:
        self._data.close()

    def used(self, start: int, end: int) -> set[int]:
        """Physical addresses of blocks that may hold other bytes than zeros."""
        found = set()
        for load in self._loads:
            first, last = max(start, load.paddr), min(end, load.paddr + load.filesz)
            at, stop = load.offset + first - load.paddr, load.offset + last - load.paddr
            while at < stop:
                try:
                    at = os.lseek(self._data.fileno(), at, os.SEEK_DATA)
                except OSError:
                    break
                hole = os.lseek(self._data.fileno(), at, os.SEEK_HOLE)
                shift = load.paddr - load.offset
                for block in range((at + shift) // BLOCK * BLOCK, min(hole, stop) + shift, BLOCK):
                    found.add(block)
                at = hole
        return found

    def read(self, paddr: int, size: int) -> bytes:
        for load in self._loads:
            if load.paddr <= paddr and paddr + size <= load.paddr + load.filesz:
                data = os.pread(self._data.fileno(), size, load.offset + paddr - load.paddr)
                return data.ljust(size, b"\0")  # the file may still be short: holes to come
        return b""


# -- in the process of the capture ----------------------------------------------------------------


class _Faults:
    """Counts the calls that change something, and ends the process at one of them."""

    def __init__(
        self,
        channel: socket.socket,
        kill_at: int | None,
        torn: bool,
        power: int | None,
        fail: int | None,
    ) -> None:
        self.channel, self.kill_at, self.torn, self.power = channel, kill_at, torn, power
        self.fail = fail
        self.releases: int | None = None
        self.calls = self.asked = 0
        self.undo: list[tuple[Any, tuple[Any, ...]]] = []  # (what makes it durable, how to undo it)
        self.lock = threading.Lock()  # who dies holds it: other threads do nothing any more
        self.real: dict[str, Any] = {}  # what was there before: a test's patches, too

    def install(self) -> None:
        self.real = {name: getattr(os, name) for name in (*CHANGING, "open")}
        for name in CHANGING:
            setattr(os, name, lambda *args, _name=name, **more: self.call(_name, args, more))
        os.open = self.open
        live._write = self.ask

    def die(self) -> None:
        if self.fail is not None:
            raise OSError(self.fail, os.strerror(self.fail))
        if self.power is not None:
            numbers = random.Random(self.power)
            gone = [action for _, action in reversed(self.undo) if numbers.random() < 0.7]
            self.channel.sendall(pickle.dumps(("undo", gone)))
        os._exit(9)

    def die_when_due(self) -> None:
        if self.due() and self.fail is None:
            self.die()

    def due(self) -> bool:
        self.calls += 1
        number = self.calls - 1
        later = self.fail is not None and self.kill_at is not None and number > self.kill_at
        return later or number == self.kill_at

    def call(self, name: str, args: Any, more: Any) -> Any:
        with self.lock:
            return self._call(name, args, more)

    def _call(self, name: str, args: Any, more: Any) -> Any:
        due = self.due()
        if due and self.torn and name in ("pwrite", "write"):
            half = (args[0], bytes(args[1])[: len(args[1]) // 2], *args[2:])
            self.note(name, half)
            self.real[name](*half)
        if due:
            self.die()
        self.note(name, args)
        return self.real[name](*args, **more)

    def note(self, name: str, args: Any) -> None:
        """Remember what a call is about to change, and what makes the change durable."""
        if self.power is None:
            return
        if name == "fsync":
            key = os.fstat(args[0]).st_ino
            self.undo = [entry for entry in self.undo if entry[0] != key]
        elif name in ("pwrite", "write", "ftruncate"):
            path = os.readlink(f"/proc/self/fd/{args[0]}")
            size = os.fstat(args[0]).st_size
            at = args[2] if name == "pwrite" else min(size, args[1] if name == "ftruncate" else 0)
            old = b"" if name != "pwrite" else os.pread(args[0], len(args[1]), at)
            if name == "ftruncate" and at < size:
                old = os.pread(args[0], min(size - at, 1 << 24), at)
            self.undo.append((os.fstat(args[0]).st_ino, ("bytes", path, at, old, size)))
        elif name in ("replace", "unlink"):
            folder = os.stat(Path(args[0]).parent).st_ino
            target = args[1] if name == "replace" else args[0]
            kept = Path(target).read_bytes() if Path(target).exists() else None
            self.undo.append((folder, (name, *(str(arg) for arg in args), kept)))

    def open(self, path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if not flags & os.O_CREAT:
            return self.real["open"](path, flags, mode, **more)
        with self.lock:
            new = not os.path.exists(path)
            if self.due():
                self.die()
            if new and self.power is not None:
                folder = os.stat(Path(path).parent).st_ino
                self.undo.append((folder, ("create", str(path))))
            return self.real["open"](path, flags, mode, **more)

    def ask(self, path: Path, data: bytes) -> None:
        with self.lock:
            self.die_when_due()
            name = str(path.relative_to(ROOT))
            self.channel.sendall(pickle.dumps(("asked", name, data)))
            answer = self.channel.recv(1)[0]
            self.asked += 1
            if self.asked == self.releases:
                self.die()
            self.die_when_due()
        if answer:
            raise phypan.OutputError(os.strerror(answer), where=str(path))


ROOT = Path("/")


def _child(
    world: World,
    faults: _Faults,
    patch: Callable[[], None] | None,
    options: dict[str, Any],
) -> None:
    global ROOT  # noqa: PLW0603 - a process of its own
    result = error = hint = None
    try:
        ROOT = world.root
        os.environ["PHYPAN_RUN"] = str(world.folder / "run")
        os.environ["PHYPAN_STATE"] = str(world.folder / "state")
        if patch is not None:
            patch()
        faults.install()
        target = options.pop("target", world.target)
        options = {"root": world.root, "window": 16 << 20, **options}
        result = phypan.capture(target, **options)
    except phypan.PhypanError as problem:
        error, hint = str(problem), problem.hint
    except BaseException as problem:  # noqa: BLE001 - the test tells
        import traceback

        error = "".join(traceback.format_exception(problem))
    faults.channel.sendall(pickle.dumps(("end", result, error, hint, faults.calls)))
    os._exit(0 if error is None else 1)


def _undo(action: tuple[Any, ...]) -> None:
    kind, *more = action
    if kind == "bytes":
        name, at, old, size = more
        path = Path(name)
        if path.exists():
            with path.open("r+b") as file:
                file.seek(at)
                file.write(old)
                file.truncate(max(size, at + len(old)) if size > at else size)
    elif kind == "create":
        Path(more[0]).unlink(missing_ok=True)
    elif kind == "replace":
        source, target, kept = Path(more[0]), Path(more[1]), more[2]
        if target.exists() and not source.exists():
            target.rename(source)
            if kept is not None:
                target.write_bytes(kept)
    elif kind == "unlink" and more[1] is not None:
        Path(more[0]).write_bytes(more[1])


# -- comparing -------------------------------------------------------------------------------------


def data(path: Path) -> list[tuple[int, bytes]]:
    """(offset, bytes) of what is not zeros in a file, in blocks."""
    found = []
    with path.open("rb", buffering=0) as file:
        fd, size, at = file.fileno(), path.stat().st_size, 0
        while at < size:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(fd, start, os.SEEK_HOLE)
            at = max(at, start // BLOCK * BLOCK)
            while at < end:
                block = os.pread(fd, BLOCK, at)
                if not block.startswith(_ZEROS[: len(block)]):
                    found.append((at, block))
                at += BLOCK
    return found


def content(path: Path) -> tuple[int, list[tuple[int, bytes]]]:
    """What is in a file: equal for equal files, holes or not."""
    return path.stat().st_size, data(path)


def assert_all_is_well(world: World, whole: Any) -> None:
    """The dump is whole, all memory the system's again, and another crash would be dumped."""
    assert world.unsaved == 0
    assert content(world.target) == whole
    assert world.boot.hypervisor.active is None, "the dump was invalidated"
    assert world.boot.hypervisor.registered is not None, "and another one registered"
    assert world.boot.rounds == 1
    freed = world.boot.reserve_size
    assert sum(end - start for start, end in world.boot._given) == freed, "all of it"
    left = {path.name for path in world.target.parent.iterdir()}
    assert left == {world.target.name}


@contextmanager
def world(simulation: Any, name: str = "") -> Iterator[World]:
    """A World that goes when it is left; of several at once each needs a name."""
    made = World.of(simulation, name)
    try:
        yield made
    finally:
        made.clean()


__all__ = ["Outcome", "World", "assert_all_is_well", "content", "data", "json", "world"]
