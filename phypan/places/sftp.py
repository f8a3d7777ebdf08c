"""Sftp: a file on another machine, through its SSH server. NAME.incomplete until it is whole.

The SFTP protocol has offsets, so that this file is written like one of this machine. What is
certain: the server has it on its disk, by fsync@openssh.com where it offers that (OpenSSH since
6.5); else it was read back.
"""

from __future__ import annotations

import posixpath
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from phypan.errors import OutputError
from phypan.places.address import Address
from phypan.places.protocols import Bytes
from phypan.places.ssh import Result, SshConnection, ssh_errors

if TYPE_CHECKING:
    from asyncssh import SFTPClientFile

SUFFIX = ".incomplete"
_PENDING = 16  # writes that the server has not answered yet
_READ = 1 << 20  # bytes read back at a time


class SftpFile:
    """The file at `address`, made anew, or taken up again behind its first `kept` bytes.

    begins  what it may begin with when it is taken up again, as far as `kept` goes
    length  what it is given at once
    """

    rewritable = True

    def __init__(
        self,
        address: Address,
        *,
        kept: int | None = None,
        begins: Sequence[bytes] = (),
        length: int = 0,
    ) -> None:
        self.name = address.name
        self._there = SshConnection(address)
        self._path = self._there.path
        self._writes: deque[Future[int]] = deque()
        self._written: list[tuple[int, int, int]] = []  # (file offset, bytes, CRC-32) to read back
        try:
            mode = "w+b" if kept is None else "r+b"
            self._file: SFTPClientFile = self._there.call(self._opened(mode))
            if kept is not None:
                self._check(kept, begins)
                # what is behind was not certain: it is put again, and zeros are not
                self._there.call(self._file.truncate(kept))
            if length:
                self._there.call(self._file.truncate(max(kept or 0, length)))
            self._syncs = self._sync()
        except BaseException:
            self.close()
            raise

    async def _opened(self, mode: str) -> SFTPClientFile:
        import asyncssh

        private = asyncssh.SFTPAttrs(permissions=0o600)
        file: SFTPClientFile = await self._there.client.open(self._path + SUFFIX, mode, private)
        await file.setstat(private)
        return file

    def _check(self, kept: int, begins: Sequence[bytes]) -> None:
        size = self._there.call(self._file.stat()).size or 0
        hint = "was it replaced by another file?"
        if size < kept:
            what = f"has {size:#x} bytes, {kept:#x} were saved to it"
            raise OutputError(what, where=self.name + SUFFIX, hint=hint)
        if begins and not any(self._read(0, len(head[:kept])) == head[:kept] for head in begins):
            raise OutputError("is not what was saved to it", where=self.name + SUFFIX, hint=hint)

    def _read(self, at: int, size: int) -> bytes:
        return memoryview(self._there.call(self._file.read(size, at))).tobytes()  # type: ignore[arg-type]

    def _sync(self) -> bool:
        """Have the server make durable what it has; False if it does not offer that."""
        import asyncssh

        with ssh_errors(self.name):
            try:
                self._there.begin(self._file.fsync()).result()
            except asyncssh.SFTPOpUnsupported:
                return False
        return True

    def put(self, at: int, data: Bytes) -> None:
        """Send it; the server answers later."""
        copy = bytes(data)
        self._writes.append(self._there.begin(self._file.write(copy, at)))
        if not self._syncs:
            self._written.append((at, len(copy), zlib.crc32(copy)))
        # One that failed stays, so that whoever confirms sees it as well.
        with ssh_errors(self.name):
            while len(self._writes) > _PENDING or (self._writes and self._writes[0].done()):
                self._writes[0].result()
                self._writes.popleft()

    def confirm(self) -> None:
        """Wait until the server has all that was put before this call on its disk."""
        written, self._written = self._written, []
        with ssh_errors(self.name):
            for write in list(self._writes):
                write.result()
        if self._syncs:
            self._sync()
        for at, size, checksum in written:
            self._read_back(at, size, checksum)

    def _read_back(self, at: int, size: int, checksum: int) -> None:
        found, start, end = 0, at, at + size
        while at < end:
            data = self._read(at, min(_READ, end - at))
            if not data:
                break
            found, at = zlib.crc32(data, found), at + len(data)
        if at < end or found != checksum:
            what = f"{size:#x} bytes at {start:#x} read back are not what was written"
            raise OutputError(what, where=self.name, hint="save to another place")

    def finish(self, size: int) -> None:
        """Give it its length, wait until it is durable, and give it its name."""
        self._there.call(self._file.truncate(size))
        self.confirm()
        self._there.call(self._file.close())
        self._there.call(self._renamed())

    async def _renamed(self) -> None:
        import asyncssh

        unfinished = self._path + SUFFIX
        try:
            await self._there.client.posix_rename(unfinished, self._path)
        except asyncssh.SFTPOpUnsupported:  # then it is never over another file
            with suppress(asyncssh.SFTPNoSuchFile):
                await self._there.client.remove(self._path)
            await self._there.client.rename(unfinished, self._path)

    def close(self) -> None:
        """Hang up."""
        self._there.close()


def check(address: Address, *, force: bool) -> None:
    """OutputError if there is no such folder, or something is there already, finished or not."""

    async def what_is_there(there: SshConnection) -> str | None:
        await there.client.stat(posixpath.dirname(there.path) or ".")
        for suffix in () if force else ("", SUFFIX):
            if await there.client.exists(there.path + suffix):
                return address.name + suffix
        return None

    found = _asked(address, what_is_there)
    if found is not None:
        raise OutputError("exists already", where=found, hint="overwrite it with --force")


def make_folder(address: Address) -> None:
    """A folder for its owner's eyes only, in one that is there; nothing if it is there already."""
    import asyncssh

    async def made(there: SshConnection) -> None:
        private = asyncssh.SFTPAttrs(permissions=0o700)
        if not await there.client.isdir(there.path):
            await there.client.mkdir(there.path, private)
            await there.client.setstat(there.path, private)

    _asked(address, made)


def is_named(address: Address) -> bool:
    """Whether the file has its name, and no unfinished one is there."""

    async def named(there: SshConnection) -> bool:
        client, path = there.client, there.path
        return await client.exists(path) and not await client.exists(path + SUFFIX)

    return _asked(address, named)


def _asked(
    address: Address, question: Callable[[SshConnection], Coroutine[Any, Any, Result]]
) -> Result:
    there = SshConnection(address)
    try:
        return there.call(question(there))
    finally:
        there.close()
