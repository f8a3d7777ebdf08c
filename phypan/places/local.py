"""A file on this machine: NAME.incomplete until it is whole and durable."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from phypan.durable import sync_folder
from phypan.errors import OutputError, os_errors
from phypan.places import Bytes, State

SUFFIX = ".incomplete"


class LocalPlace:
    """The file at `path`, made anew, or taken up again behind its first `kept` bytes.

    begins  what it must begin with when it is taken up again, as far as `kept` goes
    length  what it is given at once: where zeros are not put, its end says nothing
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        kept: int | None = None,
        begins: bytes = b"",
        length: int = 0,
        force: bool = False,
    ) -> None:
        self.path = Path(path)
        self.name = os.fspath(path)
        self.unfinished = self.path.with_name(self.path.name + SUFFIX)
        self._fd = -1
        if kept is None:
            self._check(force)
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

    def _prepare(self, kept: int, begins: bytes, length: int) -> None:
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
            begins = begins[:kept]
            if os.pread(self._fd, len(begins), 0) != begins:
                raise OutputError("is not what was saved to it", where=where, hint=hint)
            os.fchmod(self._fd, 0o600)
            # What is behind was not certain: it is put again, and zeros are not.
            os.ftruncate(self._fd, kept)
            os.ftruncate(self._fd, max(kept, length))
        if not kept:
            sync_folder(self.path.parent)

    def put(self, at: int, data: Bytes) -> None:
        """Write `data`; a disk that is full is an OutputError."""
        view = memoryview(data).cast("B")
        with os_errors(OutputError, self.unfinished):
            while view:
                count = os.pwrite(self._fd, view, at)
                view, at = view[count:], at + count

    def confirm(self) -> None:
        """Wait until the disk has it."""
        with os_errors(OutputError, self.unfinished):
            os.fsync(self._fd)

    def finish(self, size: int) -> None:
        """Give it its length and its name, each durable before what follows."""
        with os_errors(OutputError, self.unfinished):
            os.ftruncate(self._fd, size)
            os.fsync(self._fd)
            os.replace(self.unfinished, self.path)
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LocalFlow:
    """The same, one byte behind the other: what is sealed can be written in no other way."""

    confirms = True

    def __init__(self, place: LocalPlace, sent: int = 0) -> None:
        self._place, self._sent, self.name = place, sent, place.name

    def send(self, data: Bytes) -> None:
        """Write it at the end."""
        self._place.put(self._sent, data)
        self._sent += len(data)

    def confirm(self) -> tuple[int, State]:
        """All that was sent, once the disk has it."""
        sent = self._sent
        self._place.confirm()
        return sent, {}

    def finish(self) -> None:
        """Give it its name."""
        self._place.finish(self._sent)

    def close(self) -> None:
        """Close the file."""
        self._place.close()
