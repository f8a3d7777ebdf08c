"""SealedStore: what is inside of an age file, decrypted where it is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache

from phypan.errors import InputError
from phypan.formats import age
from phypan.sealing import keys
from phypan.sealing.chunks import CHUNK, SEALED, Chunks
from phypan.stores import Store

_CACHED = 256  # chunks that are kept in plain text: 16 MiB


class SealedStore:
    """The bytes inside of `sealed`, opened with the secret keys in some files.

    That the end is there is known from the start; whether any other chunk is what was sealed, when
    it is read: an altered one is an InputError that says where it is, never other bytes.
    """

    def __init__(self, sealed: Store, key_files: Iterable[str | os.PathLike[str]]) -> None:
        """Read the header and the last chunk.

        Raises InputError when none of the keys opens it or it was cut short, BadRecord when the
        header was altered.
        """
        self.name = f"{sealed.name} (sealed)"
        self._sealed = sealed
        header = age.read(sealed.view(0, min(sealed.size, age.MAX_HEADER)))
        file_key = keys.file_key_of(header, keys.identities(key_files), sealed.name)
        self._begin = header.size + age.NONCE_SIZE
        body = sealed.size - self._begin
        self._last = (body - 1) // SEALED
        left = body - self._last * SEALED  # bytes of the last chunk
        if left < age.TAG_SIZE or (left == age.TAG_SIZE and self._last):
            raise self._broken(max(self._last, 0))
        self._size = body - (self._last + 1) * age.TAG_SIZE
        self._chunks = Chunks(file_key, bytes(sealed.view(header.size, age.NONCE_SIZE)))
        self._plain = lru_cache(_CACHED)(self._decrypted)
        self._plain(self._last)

    @property
    def size(self) -> int:
        """Bytes of what is inside."""
        return self._size

    def view(self, offset: int, size: int) -> memoryview:
        """A copy in plain text, or a part of the chunk that holds it all."""
        self._check(offset, size)
        number, start = divmod(offset, CHUNK)
        if 0 < size <= CHUNK - start:
            return memoryview(self._plain(number))[start : start + size]
        buffer = bytearray(size)
        self.readinto(offset, memoryview(buffer))
        return memoryview(buffer).toreadonly()

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with plain text."""
        self._check(offset, len(buffer))
        while buffer:
            number, start = divmod(offset, CHUNK)
            count = min(CHUNK - start, len(buffer))
            if count == CHUNK:  # copied in bulk: it will not be read again
                self._decrypt(number, buffer[:CHUNK])
            else:
                buffer[:count] = memoryview(self._plain(number))[start : start + count]
            buffer, offset = buffer[count:], offset + count

    def data(self, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """All of it: what is sealed shows no holes."""
        self._check(offset, size)
        if size:
            yield offset, size

    def _decrypted(self, number: int) -> bytes:
        plain = bytearray(min(CHUNK, self._size - number * CHUNK))
        self._decrypt(number, memoryview(plain))
        return bytes(plain)

    def _decrypt(self, number: int, into: memoryview) -> None:
        at = self._begin + number * SEALED
        data = self._sealed.view(at, len(into) + age.TAG_SIZE)
        if not self._chunks.open(number, data, into, last=number == self._last):
            raise self._broken(number)

    def _broken(self, number: int) -> InputError:
        what = "was cut short or altered" if number == self._last else "was altered"
        where = f"{self._sealed.name}, chunk {number} at byte {self._begin + number * SEALED:#x}"
        return InputError(what, where=where, hint="take another copy of it")

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self._size:
            what = f"no {size:#x} bytes at {offset:#x} of {self._size:#x}"
            raise InputError(what, where=self.name)

    def close(self) -> None:
        """Forget what is in plain text; the sealed file is closed by whoever opened it."""
        self._plain.cache_clear()
