"""The age file format, version 1: its header and its keys as text. No ciphers here.

C2SP age.md (age-encryption.org/v1); keys are Bech32 (BIP 173):

    age-encryption.org/v1
    -> X25519 SHARE            one stanza for each recipient; SHARE and the body are base64
    BODY
    --- MAC
    16 bytes                   nonce; behind it the payload in chunks of 64 KiB

Base64 is without padding and in its one canonical form, so that no byte of a header can be changed
without its being another header.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from phypan.errors import BadRecord
from phypan.formats._records import Bytes

MAGIC = b"age-encryption.org/v1\n"
X25519 = "X25519"  # the one kind of stanza that phypan writes
RECIPIENT, IDENTITY = "age", "AGE-SECRET-KEY-"  # the human-readable parts of keys
FILE_KEY_SIZE, KEY_SIZE, NONCE_SIZE, TAG_SIZE, MAC_SIZE = 16, 32, 16, 16, 32  # bytes
CHUNK = 64 << 10  # bytes of plain text in each chunk but the last
MAX_HEADER = 64 << 10  # bytes
COLUMNS = 64
WHERE = "age header"

_ARGUMENT = re.compile(rb"[\x21-\x7e]+")
_MAC_MARK = b"---"


@dataclass(frozen=True)
class Stanza:
    """What one recipient needs: a type, its arguments, a body."""

    kind: str
    arguments: tuple[str, ...]
    body: bytes


@dataclass(frozen=True)
class Header:
    """A header as it was read.

    signed  what the MAC is over: all up to and with "---"
    size    bytes, up to the nonce
    """

    stanzas: Sequence[Stanza]
    mac: bytes
    signed: bytes
    size: int


def unpadded(text: bytes) -> bytes:
    """The bytes of canonical base64 without padding; BadRecord for any other."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadRecord(f"{text[:50]!r} is not base64", where=WHERE) from None
    if encoded(data) != text:
        raise BadRecord(f"{text[:50]!r} is not canonical base64", where=WHERE)
    return data


def encoded(data: Bytes) -> bytes:
    """Base64 without padding."""
    return base64.b64encode(data).rstrip(b"=")


def read(data: Bytes) -> Header:
    """The header that `data` begins with; BadRecord when there is none or it is damaged."""
    data = bytes(data[:MAX_HEADER])
    if not data.startswith(MAGIC):
        raise BadRecord("not an age file of version 1", where=WHERE)
    stanzas: list[Stanza] = []
    at = len(MAGIC)
    while True:
        line, after = _line(data, at)
        if line.startswith(_MAC_MARK):
            mac = unpadded(line[len(_MAC_MARK) + 1 :])
            if line[len(_MAC_MARK) :][:1] != b" " or len(mac) != MAC_SIZE or not stanzas:
                raise BadRecord("its end is damaged", where=f"{WHERE}, byte {at:#x}")
            return Header(stanzas, mac, data[: at + len(_MAC_MARK)], after)
        stanza, at = _stanza(data, line, at, after)
        stanzas.append(stanza)


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\n", at)
    if end < 0:
        raise BadRecord("no end", where=f"{WHERE}, byte {at:#x}")
    return data[at:end], end + 1


def _stanza(data: bytes, line: bytes, at: int, after: int) -> tuple[Stanza, int]:
    """(the stanza whose first line is `line`, where the next one begins)."""
    mark, *arguments = line.split(b" ")
    if mark != b"->" or not arguments or not all(map(_ARGUMENT.fullmatch, arguments)):
        raise BadRecord("not a stanza", where=f"{WHERE}, byte {at:#x}")
    body = b""
    while True:
        text, after = _line(data, after)
        if len(text) > COLUMNS:
            raise BadRecord("a line that is too long", where=f"{WHERE}, byte {at:#x}")
        body += unpadded(text)
        if len(text) < COLUMNS:
            kind, *rest = (argument.decode("ascii") for argument in arguments)
            return Stanza(kind, tuple(rest), body), after


def write_signed(stanzas: Sequence[Stanza]) -> bytes:
    """A header up to and with "---"; the MAC is to follow."""
    parts = [MAGIC]
    for stanza in stanzas:
        parts.append(" ".join(("->", stanza.kind, *stanza.arguments)).encode() + b"\n")
        text = encoded(stanza.body)
        lines = [text[start : start + COLUMNS] for start in range(0, len(text) + 1, COLUMNS)]
        parts += [line + b"\n" for line in lines]
    return b"".join([*parts, _MAC_MARK])


def write_mac(mac: bytes) -> bytes:
    """What follows "---"."""
    return b" " + encoded(mac) + b"\n"


# -- Bech32 ----------------------------------------------------------------------------------------

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def _polymod(values: Sequence[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum


def _expanded(prefix: str) -> list[int]:
    return [*(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix)]


def _regroup(values: Sequence[int], width: int, to: int) -> list[int]:
    """The same bits in groups of `to` instead of `width`, zeros at the end."""
    number = 0
    for value in values:
        number = number << width | value
    bits = len(values) * width
    number <<= -bits % to
    count = -(-bits // to)
    return [number >> to * (count - 1 - n) & (1 << to) - 1 for n in range(count)]


def write_key(prefix: str, key: bytes) -> str:
    """A key as text, in the case of its prefix."""
    low = prefix.lower()
    values = _regroup(key, 8, 5)
    checksum = _polymod([*_expanded(low), *values, 0, 0, 0, 0, 0, 0]) ^ 1
    values += [checksum >> 5 * (5 - n) & 31 for n in range(6)]
    text = low + "1" + "".join(_ALPHABET[value] for value in values)
    return text.upper() if prefix.isupper() else text


def read_key(prefix: str, text: str) -> bytes:
    """The 32 bytes of a key; BadRecord when it is not one, or one with a slip of the pen."""
    where = f"key {text[:24]}..." if prefix == RECIPIENT else "secret key"
    low = text.lower()
    if text not in (low, text.upper()) or not low.startswith(prefix.lower() + "1"):
        raise BadRecord(f"it does not begin with {prefix}1", where=where)
    try:
        values = [_ALPHABET.index(c) for c in low[len(prefix) + 1 :]]
    except ValueError:
        raise BadRecord("it has characters that no key has", where=where) from None
    if _polymod([*_expanded(prefix.lower()), *values]) != 1:
        raise BadRecord("its checksum is wrong", where=where, hint="copy it once more")
    key = bytes(_regroup(values[:-6], 5, 8))[:KEY_SIZE]
    if write_key(prefix, key).lower() != low:
        raise BadRecord(f"it is not a key of {KEY_SIZE} bytes", where=where)
    return key
