"""Sinks: where bytes go. What is not finished is never under its final name."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, Self

from phypan import descriptors
from phypan.allocation import Ahead, Writeback
from phypan.errors import OutputError, os_errors
from phypan.formats import flattened
from phypan.formats.lost import Lost
from phypan.stores import Store

Bytes = bytes | bytearray | memoryview

Progress = Callable[[int, int], None]  # (bytes done, bytes in all); called often, must be quick

_CHUNK = 1 << 18  # bytes read at a time: what stays in the cache of a core
_BLOCK = 1 << 16  # bytes: the smallest stretch of zeros that is not written
_ZEROS = bytes(_BLOCK)


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


class Output(Protocol):
    """What a writer writes to: bytes at offsets, in any order; what is not written is zeros."""

    def write_at(self, offset: int, data: Bytes) -> None:
        """Put `data` at file offset `offset`."""
        ...

    def copy(self, store: Store, offset: int, size: int, at: int) -> None:
        """Put `size` bytes of `store` at file offset `at`; zeros need not be written."""
        ...

    def truncate(self, size: int) -> None:
        """Say that the output ends at `size`, whatever was written last."""
        ...


class Checkpoints(Output, Protocol):
    """An Output that remembers how far a writer came, for another process to go on from there."""

    def checkpoint(self, below: int, state: Mapping[str, Any], lost: Sequence[Lost] = ()) -> None:
        """Say that all was written that the file has of memory below physical address `below`.

        state  what Writer.fill needs to go on behind it, in words of JSON, and few of them
        lost   what of that could not be read, and was not named before: physical addresses
        """
        ...


class Sparse:
    """Copies what is not zeros, by `write_at`."""

    def __init__(self) -> None:
        self._buffer = bytearray(_CHUNK)

    def write_at(self, offset: int, data: Bytes) -> None:
        """Write all of `data`."""
        raise NotImplementedError

    def copy(self, store: Store, offset: int, size: int, at: int) -> None:
        """Copy what is not zeros, and leave holes for the rest."""
        for start, length in store.data(offset, size):
            for position in range(start, start + length, _CHUNK):
                count = min(_CHUNK, start + length - position)
                store.readinto(position, memoryview(self._buffer)[:count])
                self._write_sparse(count, at + position - offset)

    def _write_sparse(self, count: int, at: int) -> None:
        """Write the first `count` bytes of the buffer, but for blocks of zeros."""
        buffer, first = self._buffer, None
        for block in range(0, count, _BLOCK):
            size = min(_BLOCK, count - block)
            # startswith compares in place, with memcmp: nothing is copied
            if buffer.startswith(_ZEROS if size == _BLOCK else _ZEROS[:size], block):
                if first is not None:
                    self.write_at(at + first, memoryview(buffer)[first:block])
                    first = None
            elif first is None:
                first = block
        if first is not None:
            self.write_at(at + first, memoryview(buffer)[first:count])


class FileOutput(Sparse):
    """A file. NAME.incomplete, readable by its owner only, until it is durable.

    Leaving the context without an error makes it durable and gives it its name; with an error
    NAME.incomplete is left, for what it is worth. One that an earlier attempt left is written
    anew, but not while another process writes it, or reads it as the dump to be converted.
    """

    def __init__(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        super().__init__()
        self.path, self._force = Path(path), force
        self._check_target()
        self.unfinished = self.path.with_name(self.path.name + ".incomplete")
        with os_errors(OutputError, self.unfinished):
            self._fd = self._open()
        self._ahead, self._writeback = Ahead(self._fd), Writeback(self._fd)

    def _check_target(self) -> None:
        where = os.fspath(self.path)
        with os_errors(OutputError, where):
            try:
                mode = os.lstat(self.path).st_mode
            except FileNotFoundError:
                return
            if stat.S_ISLNK(mode) and self.path.exists():
                mode = self.path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise OutputError("is a directory", where=where, hint="name a file in it")
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise OutputError("is not a file", where=where, hint="name one")
        if not self._force:
            raise OutputError("exists already", where=where, hint="overwrite it with --force")

    def _open(self) -> int:
        """The descriptor of an empty NAME.incomplete that nobody else has to do with."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(self.unfinished, flags | os.O_EXCL, 0o600)
        except FileExistsError:
            fd = os.open(self.unfinished, flags, 0o600)
        try:
            self._claim(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _claim(self, fd: int) -> None:
        """Empty the file, once it is sure that it is a leftover and not somebody's trap or work."""
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
            raise OutputError(
                "is there, and not as phypan leaves it",
                where=str(self.unfinished),
                hint="remove it",
            )
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                "is in use: being written, or read as a dump",
                where=str(self.unfinished),
                hint="choose another name",
            ) from None
        except OSError:  # a file system without locks
            pass
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)

    def write_at(self, offset: int, data: Bytes) -> None:
        """Write all of `data`."""
        with os_errors(OutputError, self.unfinished):
            try:
                descriptors.write_at(self._fd, data, offset)
            except OSError as error:
                if error.errno != errno.ENOSPC or not self._ahead.finish():
                    raise
                descriptors.write_at(self._fd, data, offset)
        size = memoryview(data).nbytes
        self._ahead.wrote(offset, size)
        self._writeback.wrote(size)

    def truncate(self, size: int) -> None:
        """Set the length of the file."""
        with os_errors(OutputError, self.unfinished):
            os.ftruncate(self._fd, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        try:
            self._writeback.finish()
            self._ahead.finish()
            if kind is None:
                self._finish()
        finally:
            os.close(self._fd)

    def _finish(self) -> None:
        with os_errors(OutputError, self.unfinished):
            os.fsync(self._fd)
        self._check_target()  # again: conversions take long
        with os_errors(OutputError, self.unfinished):
            os.replace(self.unfinished, self.path)
        with suppress(OutputError):  # a folder that may not be read, or cannot be synchronised
            descriptors.sync_folder(self.path.parent)


class FlattenedOutput(Sparse):
    """makedumpfile's flattened format around what is written: a stream, from front to back.

    append  takes the bytes of the stream, in order
    """

    def __init__(self, append: Callable[[Bytes], None]) -> None:
        super().__init__()
        self._append, self._end = append, 0

    def write_at(self, offset: int, data: Bytes) -> None:
        """Another record."""
        size = memoryview(data).nbytes
        if size:
            self._append(flattened.write_record(offset, size))
            self._append(data)
            self._end = max(self._end, offset + size)

    def truncate(self, size: int) -> None:
        """A record for the last byte, if nothing was written there."""
        if size > self._end:
            self.write_at(size - 1, b"\0")

    def __enter__(self) -> Self:
        self._append(flattened.write_header())
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is None:
            self._append(flattened.END)
