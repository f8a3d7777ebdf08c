"""Journal: what a capture has done for certain, so that it can go on wherever it was stopped.

A file of lines that only ever grows. A line is durable before anything follows from it. Each has
its length, twice, and a checksum that covers its place in the file as well:

    0000002a ffffffd5 9c24d1f0 {"saved": [[0, 65536]]}

So a last line that the end of power or of space cut short is told from one that was damaged
later: the first is as if it had never been written, the second is refused, for memory may have been
given back in consequence of it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from phypan.descriptors import sync_folder, write_at
from phypan.errors import InputError, OutputError, os_errors

MAX_SIZE = 1 << 30  # bytes
_HEAD = len("0000002a ffffffd5 9c24d1f0 ")
_ONES = 0xFFFFFFFF

Record = Mapping[str, Any]


class Journal:
    """The journal at `path`; nobody else can open it meanwhile.

    records  what it holds, in the order in which it was written
    """

    def __init__(self, path: str | os.PathLike[str], *, new: bool = False) -> None:
        """Open it, or with `new` make it.

        Raises InputError when it is damaged or is not there, OutputError when it is there though
        it is to be new, or another capture has it.
        """
        self.path = Path(path)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        with os_errors(OutputError if new else InputError, self.path):
            if new:
                self._fd = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            else:
                self._fd = os.open(self.path, flags)
        try:
            self._lock()
            if new:
                sync_folder(self.path.parent)
            self.records, self._size = self._read()
        except BaseException:
            os.close(self._fd)
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return  # a file system without locks; the lock on the memory remains
            raise OutputError(
                "another capture is under way",
                where=str(self.path),
                hint="wait for it to end; `phypan status` shows what is left to be saved",
            ) from error

    def _read(self) -> tuple[list[Record], int]:
        """(all records, bytes up to the end of the last); what was cut short behind it goes."""
        with os_errors(InputError, self.path):
            size = os.fstat(self._fd).st_size
            if size > MAX_SIZE:
                raise InputError(f"{size:#x} bytes are no journal", where=str(self.path))
            # NULs at the end: the length was made durable, and the bytes were not
            data = os.pread(self._fd, size, 0).rstrip(b"\0")
        records: list[Record] = []
        at = 0
        while at < len(data):
            end = self._line_end(data, at, len(records))
            if end is None:
                break
            records.append(json.loads(data[at + _HEAD : end - 1]))
            at = end
        if at < size:
            with os_errors(OutputError, self.path):
                os.ftruncate(self._fd, at)
                os.fsync(self._fd)
        return records, at

    def _line_end(self, data: bytes, at: int, number: int) -> int | None:
        """Where the line at `at` ends; None if it was cut short while it was written."""
        head = data[at : at + _HEAD]
        if len(head) < _HEAD:
            return None
        try:
            length, inverted, checksum = (int(field, 16) for field in head.split(b" ")[:3])
        except ValueError:
            raise self._damaged(number) from None
        if length ^ inverted != _ONES or head != _head(length, checksum):
            raise self._damaged(number)
        end = at + _HEAD + length + 1
        if len(data) < end:
            return None
        payload = data[at + _HEAD : end - 1]
        if _checksum(payload, number) != checksum or data[end - 1 : end] != b"\n":
            raise self._damaged(number)
        return end

    def _damaged(self, number: int) -> InputError:
        return InputError(
            "is damaged",
            where=f"{self.path}, line {number + 1}",
            hint="what was saved is in the unfinished dump; `phypan capture` can start anew "
            "only if nothing was given back",
        )

    def append(self, record: Record) -> None:
        """Add a record; it is durable when this returns. OutputError when it cannot be."""
        payload = json.dumps(record, separators=(",", ":")).encode()
        line = _head(len(payload), _checksum(payload, len(self.records))) + payload + b"\n"
        with os_errors(OutputError, self.path):
            try:
                write_at(self._fd, line, self._size)
                os.fsync(self._fd)
            except OSError:
                os.ftruncate(self._fd, self._size)
                raise
        self._size += len(line)
        self.records.append(record)

    def remove(self) -> None:
        """Delete it: the capture is complete."""
        with os_errors(OutputError, self.path):
            os.unlink(self.path)
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Close it, and let others open it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _head(length: int, checksum: int) -> bytes:
    return b"%08x %08x %08x " % (length, length ^ _ONES, checksum)


def _checksum(payload: bytes, number: int) -> int:
    return zlib.crc32(payload, zlib.crc32(b"%d" % number))
