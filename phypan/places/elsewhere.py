"""Elsewhere: a stream to any other place that fsspec knows: gs, abfs, hdfs, smb, ftp, ...

Of these nothing is certain before the file is closed and has its size: what is stopped begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from phypan.errors import OutputError, Unreachable, Unsupported
from phypan.places.address import scheme_of, shown
from phypan.places.protocols import Bytes


class FsspecStream:
    """A file at the URL `target`, written from front to back."""

    def __init__(self, target: str) -> None:
        self.name, self._size = shown(target), 0
        self._fs, self._path = system(target)
        with _errors(self.name):
            self._file = self._fs.open(self._path, "wb")

    def append(self, *parts: Bytes) -> None:
        """Write it."""
        with _errors(self.name):
            for part in parts:
                self._file.write(part)
                self._size += memoryview(part).nbytes

    def confirm(self) -> int:
        """Nothing is certain before the end."""
        return 0

    def state(self) -> Mapping[str, Any]:
        """Nothing: what is stopped begins anew."""
        return {}

    def finish(self) -> None:
        """Close it, and see whether all of it is there."""
        with _errors(self.name):
            self._file.close()
            self._fs.invalidate_cache()
            size = self._fs.size(self._path)
        if size != self._size:
            raise OutputError(f"has {size} bytes of {self._size}", where=self.name)

    def close(self) -> None:
        """Drop what is unfinished, where that can be."""
        with suppress(Exception):
            if not self._file.closed and hasattr(self._file, "discard"):
                self._file.discard()


def system(target: str) -> tuple[Any, str]:
    """(the file system that fsspec knows for a URL, the path in it)."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        what, hint = f"{scheme_of(target)}:// needs the package fsspec", "pip install fsspec"
        raise Unsupported(what, where=shown(target), hint=hint) from None
    try:
        with _errors(shown(target)):
            found: tuple[Any, str] = url_to_fs(target)
    except (ValueError, ImportError) as error:  # no such protocol, or its package is missing
        raise Unsupported(str(error), where=shown(target)) from error
    return found


@contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise OutputError(error.strerror or str(error), where=name) from error
    except OSError as error:
        raise Unreachable(error.strerror or str(error), where=name) from error


def check(target: str, *, force: bool) -> None:
    """OutputError if something is there already."""
    files, path = system(target)
    with _errors(shown(target)):
        there = not force and files.exists(path)
    if there:
        raise OutputError("exists already", where=shown(target), hint="overwrite it with --force")


def make_folder(target: str) -> None:
    """The folder at a URL, and those above it, where the place has such."""
    files, path = system(target)
    with _errors(shown(target)):
        files.makedirs(path, exist_ok=True)
