"""Destination: where a conversion's files go, and what is put around each of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from phypan.places import opening
from phypan.places.address import local_path
from phypan.places.patience import Patience
from phypan.places.protocols import Stream
from phypan.sinks import Bytes, FileOutput, FlattenedOutput, Output

Result = TypeVar("Result")


@dataclass(frozen=True)
class Destination:
    """How files are opened.

    force      whether what is there is overwritten
    flattened  whether each is in makedumpfile's flattened format
    seal_for   age public keys, or files of them, if what is written is sealed
    patience   how often a place elsewhere that does not answer, or breaks off, is tried again
    """

    force: bool = False
    flattened: bool = False
    seal_for: tuple[str, ...] = ()
    patience: Patience = field(default_factory=Patience)

    def write(self, path: str | os.PathLike[str], write: Callable[[Output], Result]) -> Result:
        """What `write` returns of the Output at `path`.

        A place elsewhere that breaks off gets all of it anew: `write` may be called again.
        """
        target = os.fspath(path)
        if not opening.is_here(target):
            self.patience.call(lambda: opening.check(target, force=self.force))

        def attempt() -> Result:
            with self.open(target) as output:
                return write(output)

        return self.patience.call(attempt)

    @contextmanager
    def open(self, path: str | os.PathLike[str]) -> Iterator[Output]:
        """The Output at `path`, made durable and named when it is left without an error."""
        target = os.fspath(path)
        here = opening.is_here(target)
        if here and not self.seal_for and not self.flattened:
            with FileOutput(local_path(target), force=self.force) as file:
                yield file
            return
        seal_in = self._sealing() if self.seal_for else None
        with self._stream(target) if here else self._elsewhere(target) as stream:
            around = stream if seal_in is None else seal_in(stream)
            with FlattenedOutput(around.append) as output:
                yield output
            around.finish()

    def _sealing(self) -> Callable[[Stream], Stream]:
        """What makes a sealed stream around another one."""
        from phypan.places.sealed import Sealed
        from phypan.sealing.chunks import Seal
        from phypan.sealing.keys import recipients

        seal = Seal.new(recipients(self.seal_for))
        return lambda stream: Sealed(stream, seal)

    @contextmanager
    def _stream(self, path: str) -> Iterator[Stream]:
        with FileOutput(local_path(path), force=self.force) as file:
            yield _InFile(file)

    @contextmanager
    def _elsewhere(self, target: str) -> Iterator[Stream]:
        stream = opening.open_stream(target, {}, _LARGEST)
        try:
            yield stream
        finally:
            stream.close()


_LARGEST = 1 << 40  # bytes: what may go to a store that must know of more beforehand


class _InFile:
    """The stream of bytes that a file becomes."""

    def __init__(self, file: FileOutput) -> None:
        self.name, self._file, self._at = os.fspath(file.path), file, 0

    def append(self, *parts: Bytes) -> None:
        for part in parts:
            self._file.write_at(self._at, part)
            self._at += memoryview(part).nbytes

    def confirm(self) -> int:
        return 0

    def state(self) -> Mapping[str, Any]:
        return {}

    def finish(self) -> None:
        """Nothing: the file is made durable when it is left."""

    def close(self) -> None:
        """Nothing: whoever opened the file closes it."""
