"""Destination: where a conversion's files go, and what is put around each of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phypan.places.pipe import Pipe
from phypan.places.protocols import Stream
from phypan.places.sealed import Sealed
from phypan.sealing.chunks import Seal
from phypan.sealing.keys import recipients
from phypan.sinks import Bytes, FileOutput, FlattenedOutput, Output, flattened_file, pipe

STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class Destination:
    """How files are opened.

    force      whether what is there is overwritten
    flattened  whether each is in makedumpfile's flattened format
    seal_for   age public keys, or files of them, if what is written is sealed
    """

    force: bool = False
    flattened: bool = False
    seal_for: tuple[str, ...] = ()

    @contextmanager
    def open(self, path: str | os.PathLike[str]) -> Iterator[Output]:
        """The Output at `path`, made durable and named when it is left without an error."""
        if not self.seal_for:
            with self._plain(Path(path)) as output:
                yield output
            return
        seal = Seal.new(recipients(self.seal_for))
        with _stream(path, self.force) as stream:
            sealed = Sealed(stream, seal)
            with FlattenedOutput(sealed.append) as output:
                yield output
            sealed.finish()

    @contextmanager
    def _plain(self, path: Path) -> Iterator[Output]:
        if str(path) == STANDARD_OUTPUT:
            with pipe(sys.stdout.fileno(), "standard output") as output:
                yield output
        elif self.flattened:
            with flattened_file(path, force=self.force) as output:
                yield output
        else:
            with FileOutput(path, force=self.force) as output:
                yield output


@contextmanager
def _stream(path: str | os.PathLike[str], force: bool) -> Iterator[Stream]:
    if os.fspath(path) == STANDARD_OUTPUT:
        yield Pipe(sys.stdout.fileno(), "standard output")
        return
    with FileOutput(path, force=force) as file:
        yield _InFile(file)


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
