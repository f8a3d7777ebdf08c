"""Keys of those who may open what is sealed: as text, in files, and what a header makes of them.

    age1...              public, a recipient's: it seals, and opens nothing
    AGE-SECRET-KEY-1...  secret: it opens

Both are what age-keygen makes. A file has one on each line; lines of "#" are comments.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from phypan.errors import BadRecord, InputError, OutputError, Unsupported, os_errors
from phypan.formats import age

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_MOST = 1 << 20  # bytes of a file of keys
_WRAPPING = b"age-encryption.org/v1/X25519"
_NO_NONCE = bytes(12)  # each wrapping key is used once


def cipher(key: bytes) -> ChaCha20Poly1305:
    """ChaCha20-Poly1305 with this key of 32 bytes; Unsupported where `cryptography` is missing."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    except ImportError:
        raise Unsupported(
            "sealing needs the package cryptography", hint="pip install 'phypan[seal]'"
        ) from None
    return ChaCha20Poly1305(key)


def derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """32 bytes of HKDF-SHA-256 (RFC 5869): one block."""
    extracted = hmac.digest(salt or bytes(32), secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\1", hashlib.sha256)


def new_pair() -> tuple[str, str]:
    """(secret key, public key) that nobody has yet, as text."""
    secret = os.urandom(age.KEY_SIZE)
    return age.write_key(age.IDENTITY, secret), age.write_key(age.RECIPIENT, _public(secret))


def write_pair(path: str | os.PathLike[str]) -> str:
    """Make `path` a file of a new secret key, for its owner's eyes only; the public key."""
    secret, public = new_pair()
    text = f"# public key: {public}\n{secret}\n"
    with os_errors(OutputError, path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    return public


def recipients(given: Iterable[str]) -> list[bytes]:
    """The public keys of those who are to open it: each given as a key, or as a file of keys."""
    found: list[bytes] = []
    for text in given:
        if text.startswith(f"{age.RECIPIENT}1") and not os.path.exists(text):
            found.append(_read(age.RECIPIENT, text, "public key"))
        else:
            found += [_read(age.RECIPIENT, line, where) for where, line in _lines(Path(text))]
    return found


def identities(paths: Iterable[str | os.PathLike[str]]) -> list[bytes]:
    """The secret keys in these files."""
    lines = (line for path in paths for line in _lines(Path(path)))
    return [_read(age.IDENTITY, line, where) for where, line in lines]


def _read(prefix: str, text: str, where: str) -> bytes:
    try:
        return age.read_key(prefix, text)
    except BadRecord as error:
        hint = error.hint
        if text.upper().startswith(age.IDENTITY) and prefix == age.RECIPIENT:
            hint = "that is a secret key: give the public one"
        raise InputError(error.what, where=where, hint=hint) from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """(where it is, the text) of each key in a file."""
    with os_errors(InputError, path), path.open("rb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and os.path.getsize(path) > _MOST:
            raise InputError("is too large for a file of keys", where=str(path))
        data = file.read(_MOST)
    lines = data.decode("ascii", "replace").splitlines()
    keys = [
        (f"{path}, line {number}", line.strip())
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not keys:
        raise InputError("has no keys", where=str(path), hint="`phypan keygen` makes such a file")
    yield from keys


# -- the header ------------------------------------------------------------------------------------


def write_header(file_key: bytes, public_keys: Sequence[bytes]) -> bytes:
    """A header out of which each of the owners of `public_keys` gets the file key."""
    if not public_keys:
        raise InputError("nobody to seal it for", where="recipients")
    signed = age.write_signed([_wrapped(file_key, public) for public in public_keys])
    return signed + age.write_mac(_mac(file_key, signed))


def file_key_of(header: age.Header, secret_keys: Sequence[bytes], name: str) -> bytes:
    """The file key in a header.

    Raises InputError when none of the keys opens it, BadRecord when the header was altered.
    """
    for secret in secret_keys:
        for stanza in header.stanzas:
            if stanza.kind == age.X25519 and (file_key := _unwrapped(stanza, secret)):
                if not hmac.compare_digest(_mac(file_key, header.signed), header.mac):
                    raise BadRecord("it was altered", where=f"{name}, {age.WHERE}")
                return file_key
    raise InputError(
        "is sealed, and none of these keys opens it" if secret_keys else "is sealed",
        where=name,
        hint="give the file of a secret key that it was sealed for: --key FILE",
    )


def _mac(file_key: bytes, signed: bytes) -> bytes:
    return hmac.digest(derived(file_key, b"", b"header"), signed, hashlib.sha256)


def _public(secret: bytes) -> bytes:
    cipher(bytes(age.KEY_SIZE))  # Unsupported if the package is missing
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def _shared(secret: bytes, public: bytes) -> bytes | None:
    """What both sides know; None for a public key that makes it the same for everybody."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    try:
        other = X25519PublicKey.from_public_bytes(public)
        return X25519PrivateKey.from_private_bytes(secret).exchange(other)
    except ValueError:
        return None


def _wrapped(file_key: bytes, public: bytes) -> age.Stanza:
    secret = os.urandom(age.KEY_SIZE)
    share, shared = _public(secret), _shared(secret, public)
    if shared is None:
        raise InputError("is not a key that can be used", where="public key")
    key = derived(shared, share + public, _WRAPPING)
    body = cipher(key).encrypt(_NO_NONCE, file_key, None)
    return age.Stanza(age.X25519, (age.encoded(share).decode(),), body)


def _unwrapped(stanza: age.Stanza, secret: bytes) -> bytes | None:
    """The file key; None if the stanza is another's. BadRecord if it is damaged."""
    from cryptography.exceptions import InvalidTag

    public = _public(secret)
    share = age.unpadded(stanza.arguments[0].encode()) if len(stanza.arguments) == 1 else b""
    if len(share) != age.KEY_SIZE or len(stanza.body) != age.FILE_KEY_SIZE + age.TAG_SIZE:
        raise BadRecord("a recipient that no age file has", where=age.WHERE)
    shared = _shared(secret, share)
    if shared is None:
        return None
    key = derived(shared, share + public, _WRAPPING)
    try:
        return cipher(key).decrypt(_NO_NONCE, stanza.body, None)
    except InvalidTag:
        return None
