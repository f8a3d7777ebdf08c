"""Shelves: the folders at a place, what is in each, and how one is removed."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from phypan.errors import OutputError, os_errors
from phypan.places import elsewhere
from phypan.places.address import Address, shown


class Shelf(Protocol):
    """Folders at a place. All of it raises OutputError."""

    name: str

    def folders(self) -> list[str]:
        """Names of the folders; what only points at one is none."""
        ...

    def files(self, folder: str) -> set[str]:
        """Names of all that is in a folder."""
        ...

    def remove(self, folder: str) -> None:
        """Remove a folder of files."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class LocalShelf:
    """Folders on this machine."""

    def __init__(self, path: Path) -> None:
        self.name, self._path = str(path), path

    def folders(self) -> list[str]:
        """Those that are no links."""
        with os_errors(OutputError, self._path):
            return [
                path.name
                for path in self._path.iterdir()
                if path.is_dir() and not path.is_symlink()
            ]

    def files(self, folder: str) -> set[str]:
        """Names of all that is in it."""
        with os_errors(OutputError, self._path / folder):
            return {path.name for path in (self._path / folder).iterdir()}

    def remove(self, folder: str) -> None:
        """Its files, and then it."""
        with os_errors(OutputError, self._path / folder):
            for path in (self._path / folder).iterdir():
                path.unlink()
            (self._path / folder).rmdir()

    def close(self) -> None:
        """Nothing."""


class SftpShelf:
    """Folders on another machine, through its SSH server."""

    def __init__(self, address: Address) -> None:
        from phypan.places.ssh import SshConnection

        self.name = address.name
        self._there = SshConnection(address)
        self._path = self._there.path

    def _entries(self, path: str) -> dict[str, bool]:
        """Name -> whether it is a folder, of all that is in one."""

        async def entries() -> dict[str, bool]:
            return {
                str(entry.filename): stat.S_ISDIR(entry.attrs.permissions or 0)
                for entry in await self._there.client.readdir(path)
                if entry.filename not in (".", "..")
            }

        return self._there.call(entries())

    def folders(self) -> list[str]:
        """Those that are no links."""
        return [name for name, is_folder in self._entries(self._path).items() if is_folder]

    def files(self, folder: str) -> set[str]:
        """Names of all that is in it."""
        return set(self._entries(posixpath.join(self._path, folder)))

    def remove(self, folder: str) -> None:
        """Its files, and then it."""
        path = posixpath.join(self._path, folder)
        for name in self.files(folder):
            self._there.call(self._there.client.remove(posixpath.join(path, name)))
        self._there.call(self._there.client.rmdir(path))

    def close(self) -> None:
        """Hang up."""
        self._there.close()


class FsspecShelf:
    """Folders anywhere else, or beginnings of names in a store of objects, which has no others."""

    def __init__(self, name: str, system: Any, path: str) -> None:
        self.name, self._fs, self._path = name, system, path.rstrip("/")

    def _entries(self, path: str) -> dict[str, bool]:
        with self._errors():
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(path, detail=True)
            except FileNotFoundError:  # nothing has a name that begins so
                found = []
        return {
            posixpath.basename(entry["name"].rstrip("/")): entry["type"] == "directory"
            for entry in found
        }

    def folders(self) -> list[str]:
        """Names of the folders."""
        return [name for name, is_folder in self._entries(self._path).items() if is_folder]

    def files(self, folder: str) -> set[str]:
        """Names of all that is in it."""
        return set(self._entries(f"{self._path}/{folder}"))

    def remove(self, folder: str) -> None:
        """Its files, and then it."""
        path = f"{self._path}/{folder}"
        with self._errors():
            for name in self.files(folder):
                self._fs.rm_file(f"{path}/{name}")
            with suppress(FileNotFoundError):  # it was no more than what their names began with
                self._fs.rmdir(path)

    def close(self) -> None:
        """Nothing."""

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Whatever the package of the place raises: each has errors of its own."""
        try:
            yield
        except OutputError:
            raise
        except Exception as error:
            raise OutputError(str(error) or type(error).__name__, where=self.name) from error


def on_fsspec(target: str) -> FsspecShelf:
    """What fsspec makes of a URL that is neither SSH, S3 nor HTTP."""
    system, path = elsewhere.system(target)
    return FsspecShelf(shown(target), system, path)
