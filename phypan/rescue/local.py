"""A file on this machine: NAME.incomplete until it is whole and durable."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from phypan.descriptors import sync_folder, write_at
from phypan.errors import OutputError, os_errors
from phypan.pages.zlib_codec import crc32
from phypan.rescue.disk import DiskReader

SUFFIX = ".incomplete"

Bytes = bytes | bytearray | memoryview


class LocalFile:
    """The file at `path`, made anew, or taken up again behind its first `kept` bytes.

    begins  what it may begin with when it is taken up again, as far as `kept` goes
    length  what it is given at once: where zeros are not put, its end says nothing
    verify  whether what was put is read back and compared before it counts as certain
    """

    rewritable = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        kept: int | None = None,
        begins: Sequence[bytes] = (),
        length: int = 0,
        force: bool = False,
        verify: bool = True,
    ) -> None:
        self.path = Path(path)
        self.name = os.fspath(path)
        self.unfinished = self.path.with_name(self.path.name + SUFFIX)
        self._fd = -1
        self._disk: DiskReader | None = None
        self._verify, self._crc32 = verify, crc32()
        self._put: deque[tuple[int, int, int]] = (
            deque()
        )  # (file offset, bytes, CRC-32), unconfirmed
        if kept is None:
            self._check(force)
        elif not self.unfinished.exists():
            what, hint = f"is gone, and {kept:#x} bytes were saved to it", "put it back"
            if self.path.exists():
                hint = f"if {self.name} is the whole dump, remove the journal"
            raise OutputError(what, where=str(self.unfinished), hint=hint)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with os_errors(OutputError, self.unfinished):
            self._fd = os.open(self.unfinished, flags | (os.O_CREAT if kept is None else 0), 0o600)
        try:
            self._prepare(kept or 0, begins, length)
        except BaseException:
            self.close()
            raise

    def _check(self, force: bool) -> None:
        if self.path.is_dir():
            raise OutputError("is a directory", where=self.name, hint="name a file in it")
        if self.path.exists() and not force:
            raise OutputError("exists already", where=self.name, hint="overwrite it with --force")

    def _prepare(self, kept: int, begins: Sequence[bytes], length: int) -> None:
        where = str(self.unfinished)
        with os_errors(OutputError, self.unfinished):
            found = os.fstat(self._fd)
            mine = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
            if not mine or found.st_nlink != 1:
                what = "is there, and not as phypan leaves it"
                raise OutputError(what, where=where, hint="remove it")
            hint = "was it replaced by another file?"
            if found.st_size < kept:
                what = f"has {found.st_size:#x} bytes, {kept:#x} were saved to it"
                raise OutputError(what, where=where, hint=hint)
            if kept and not any(self._begins_with(head[:kept]) for head in begins):
                raise OutputError("is not what was saved to it", where=where, hint=hint)
            os.fchmod(self._fd, 0o600)
            # What is behind was not certain: it is put again, and zeros are not.
            os.ftruncate(self._fd, kept)
            os.ftruncate(self._fd, max(kept, length))
        if not kept:
            sync_folder(self.path.parent)

    def _begins_with(self, head: bytes) -> bool:
        return os.pread(self._fd, len(head), 0) == head

    def put(self, at: int, data: Bytes) -> None:
        """Write `data` at file offset `at`; a disk that is full is an OutputError."""
        view = memoryview(data).cast("B")
        with os_errors(OutputError, self.unfinished):
            write_at(self._fd, view, at)
        if self._verify:  # now it is there: whoever confirms meanwhile may read it back
            self._put.append((at, len(view), self._crc32(view)))

    def confirm(self) -> None:
        """Wait until the disk has all that was put before this call, and see whether it does."""
        count = len(self._put)
        with os_errors(OutputError, self.unfinished):
            os.fsync(self._fd)
            for _ in range(count):
                self._read_back(*self._put.popleft())

    def _read_back(self, at: int, size: int, checksum: int) -> None:
        """OutputError if the file does not give what was put, from the disk where that can be."""
        if self._disk is None:
            self._disk = DiskReader(self._fd)
        found = count = 0
        for piece in self._disk.pieces(at, size):
            found, count = self._crc32(piece, found), count + len(piece)
        if count < size or found != checksum:
            raise OutputError(
                f"{size:#x} bytes at {at:#x} read back are not what was written",
                where=str(self.unfinished),
                hint="the disk fails: save to another one; what was not given back is still there",
            )

    def finish(self, size: int) -> None:
        """Give it its length and its name, each durable before what follows."""
        with os_errors(OutputError, self.unfinished):
            os.ftruncate(self._fd, size)
            self.confirm()
            os.replace(self.unfinished, self.path)
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Close the file."""
        if self._disk:
            self._disk.close()
            self._disk = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
