"""Chunks: the payload of an age file, 64 KiB of it at a time, each numbered and the last marked."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from phypan.formats import age
from phypan.sealing.keys import cipher, derived, write_header

Bytes = bytes | bytearray | memoryview

_Into = Callable[[bytes, Bytes, None, memoryview], int]

CHUNK = age.CHUNK  # bytes of plain text
SEALED = CHUNK + age.TAG_SIZE  # bytes of a chunk in the file


class Chunks:
    """The cipher of one file's payload."""

    def __init__(self, file_key: bytes, nonce: bytes) -> None:
        self._cipher = cipher(derived(file_key, nonce, b"payload"))
        # Into memory that is there already: new memory for each chunk takes half of the time.
        # Older versions of cryptography cannot do that.
        self._encrypt: _Into | None = getattr(self._cipher, "encrypt_into", None)
        self._decrypt: _Into | None = getattr(self._cipher, "decrypt_into", None)

    def seal(self, number: int, data: Bytes, into: memoryview, *, last: bool = False) -> None:
        """Put a chunk of `data` into a buffer that is longer by the tag.

        A number is never to be used for other data.
        """
        nonce = _nonce(number, last)
        if self._encrypt is not None:
            self._encrypt(nonce, data, None, into)
        else:
            into[:] = self._cipher.encrypt(nonce, data, None)

    def open(self, number: int, data: Bytes, into: memoryview, *, last: bool = False) -> bool:
        """Put the plain text of a chunk into a buffer that is shorter by the tag.

        False if the chunk is not what was sealed under this number; the buffer then holds nothing.
        """
        from cryptography.exceptions import InvalidTag

        nonce = _nonce(number, last)
        try:
            if self._decrypt is not None:
                self._decrypt(nonce, data, None, into)
            else:
                into[:] = self._cipher.decrypt(nonce, data, None)
        except InvalidTag:
            into[:] = bytes(len(into))
            return False
        return True


@dataclass(frozen=True)
class Seal:
    """One age file that is being written.

    file_key  who knows it reads all of the file
    head      what the file begins with: the header and the nonce
    """

    file_key: bytes
    head: bytes

    @classmethod
    def new(cls, public_keys: Sequence[bytes]) -> Seal:
        """For the owners of these keys (see keys.recipients)."""
        file_key = os.urandom(age.FILE_KEY_SIZE)
        return cls(file_key, write_header(file_key, public_keys) + os.urandom(age.NONCE_SIZE))

    @property
    def chunks(self) -> Chunks:
        """The cipher of its payload."""
        return Chunks(self.file_key, self.head[-age.NONCE_SIZE :])


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
