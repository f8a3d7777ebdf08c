"""Sinks: where bytes go. What is not finished is never under its final name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

from phypan.errors import OutputError, os_errors
from phypan.formats import flattened
from phypan.stores import Store

Bytes = bytes | bytearray | memoryview

Progress = Callable[[int, int], None]  # (bytes done, bytes in all); called often, must be quick

_CHUNK = 4 << 20  # bytes read at a time
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


class _Sparse:
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


class FileOutput(_Sparse):
    """A file. NAME.incomplete, readable by its owner only, until it is durable.

    Leaving the context without an error makes it durable and gives it its name; with an error
    NAME.incomplete is left, for what it is worth.
    """

    def __init__(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        super().__init__()
        self.path = Path(path)
        self.unfinished = self.path.with_name(self.path.name + ".incomplete")
        if self.path.is_dir():
            raise OutputError("is a directory", where=str(path), hint="name a file in it")
        if not force and self.path.exists():
            raise OutputError("exists already", where=str(path), hint="overwrite it with --force")
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with os_errors(OutputError, self.unfinished):
            self._fd = os.open(self.unfinished, flags, 0o600)
            os.fchmod(self._fd, 0o600)

    def write_at(self, offset: int, data: Bytes) -> None:
        """Write all of `data`."""
        view = memoryview(data).cast("B")
        with os_errors(OutputError, self.unfinished):
            while view:
                count = os.pwrite(self._fd, view, offset)
                view, offset = view[count:], offset + count

    def truncate(self, size: int) -> None:
        """Set the length of the file."""
        with os_errors(OutputError, self.unfinished):
            os.ftruncate(self._fd, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            os.close(self._fd)

    def _finish(self) -> None:
        with os_errors(OutputError, self.unfinished):
            os.fsync(self._fd)
            os.replace(self.unfinished, self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class FlattenedOutput(_Sparse):
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


@contextmanager
def flattened_file(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Output]:
    """A file that holds a flattened dump."""
    with FileOutput(path, force=force) as file:
        position = 0

        def append(data: Bytes) -> None:
            nonlocal position
            file.write_at(position, data)
            position += memoryview(data).nbytes

        with FlattenedOutput(append) as output:
            yield output


@contextmanager
def pipe(descriptor: int, name: str) -> Iterator[Output]:
    """A flattened dump through a pipe."""
    if os.isatty(descriptor):
        raise OutputError("is a terminal", where=name, hint="send it to a file or another program")

    def append(data: Bytes) -> None:
        view = memoryview(data).cast("B")
        with os_errors(OutputError, name):
            while view:
                view = view[os.write(descriptor, view) :]

    with FlattenedOutput(append) as output:
        yield output
