"""Sealing and opening 1 GiB, next to the cipher alone: ChaCha20-Poly1305 in chunks of 64 KiB.

The cipher alone is a loop over one chunk in memory, in this process. What is measured against it
is what a capture and a conversion do: records of a flattened dump of 1 MiB, into a stream that
drops them; and a file in the page cache, read from front to back in pieces of 1 MiB.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks._measure import alternate, seconds
from phypan.places.sealed import Sealed
from phypan.sealing.chunks import CHUNK, SEALED, Seal
from phypan.sealing.keys import recipients, write_pair
from phypan.sealing.store import SealedStore
from phypan.sinks import FileOutput, FlattenedOutput
from phypan.stores import FileStore

SIZE, PIECE = 1 << 30, 1 << 20
DATA = os.urandom(PIECE)


class _Nowhere:
    """A stream that drops what it is given."""

    name = "nowhere"

    def append(self, *parts: bytes) -> None:
        pass

    def confirm(self) -> int:
        return 0

    def state(self) -> dict[str, object]:
        return {}

    def finish(self) -> None:
        pass

    close = finish


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("PHYPAN_BENCH", None)) as scratch:
        seal = Seal.new(recipients([write_pair(Path(scratch) / "key")]))
        print("sealing the records of a flattened dump, against the cipher alone")
        rate(alternate(lambda: seconds(lambda: write(seal)), lambda: seconds(lambda: cipher(seal))))
        store = opened(Path(scratch), seal)
        print("reading what is sealed, against the cipher alone")
        rate(alternate(lambda: seconds(lambda: read(store)), lambda: seconds(lambda: open_(seal))))


def rate(ratio: float) -> None:
    print(f"   {1 / ratio:.2f} of the cipher's rate")


def write(seal: Seal) -> None:
    sealed = Sealed(_Nowhere(), seal)
    with FlattenedOutput(sealed.append) as output:
        for at in range(0, SIZE, PIECE):
            output.write_at(at, DATA)
    sealed.finish()


def cipher(seal: Seal) -> None:
    chunks, data, into = seal.chunks, DATA[:CHUNK], memoryview(bytearray(SEALED))
    for number in range(SIZE // CHUNK):
        chunks.seal(number, data, into)


def opened(folder: Path, seal: Seal) -> SealedStore:
    """A sealed file of SIZE bytes, open."""

    class InFile(_Nowhere):
        at = 0

        def append(self, *parts: bytes) -> None:
            for part in parts:
                file.write_at(self.at, part)
                self.at += len(part)

    with FileOutput(folder / "sealed") as file:
        sealed = Sealed(InFile(), seal)
        for _ in range(0, SIZE, PIECE):
            sealed.append(DATA)
        sealed.finish()
    return SealedStore(FileStore(folder / "sealed"), [folder / "key"])


def read(store: SealedStore) -> None:
    buffer = memoryview(bytearray(PIECE))
    for at in range(0, SIZE, PIECE):
        store.readinto(at, buffer)


def open_(seal: Seal) -> None:
    chunks, data, into = seal.chunks, memoryview(bytearray(SEALED)), memoryview(bytearray(CHUNK))
    chunks.seal(0, DATA[:CHUNK], data)
    for _ in range(SIZE // CHUNK):
        assert chunks.open(0, data, into)


if __name__ == "__main__":
    main()
