"""What is sealed opens with the right key only, and not with one byte of it altered.

The judge is pyrage, the age of another author in another language: it opens what phypan seals, and
phypan opens what it seals.
"""

from __future__ import annotations

import random

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phypan
from phypan import BytesStore, SealedStore
from phypan.formats import age
from phypan.places.sealed import Sealed
from phypan.sealing.chunks import CHUNK, SEALED, Seal
from phypan.sealing.keys import recipients
from tests.places.memory import InMemory

SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 20 * CHUNK + 7)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(the file of a secret key, the public key)"""
    path = tmp_path_factory.mktemp("keys") / "key"
    return path, phypan.write_pair(path)


@pytest.fixture(scope="module")
def identity(pair):
    return pyrage.x25519.Identity.from_str(pair[0].read_text().split()[-1])


def sealed(data: bytes, *public: str, pieces: int = 1 << 30) -> bytes:
    stream = InMemory()
    sealing = Sealed(stream, Seal.new(recipients(public)))
    for at in range(0, len(data), pieces):
        sealing.append(data[at : at + pieces])
    sealing.finish()
    return bytes(stream.data)


def opened(data: bytes, key) -> bytes:
    store = SealedStore(BytesStore(data), [key])
    return bytes(store.view(0, store.size))


@pytest.mark.parametrize("size", SIZES)
def test_age_opens_what_phypan_seals(pair, identity, size) -> None:
    data = random.Random(size).randbytes(size)
    assert pyrage.decrypt(sealed(data, pair[1]), [identity]) == data
    assert pyrage.decrypt(sealed(data, pair[1], pieces=40_000), [identity]) == data


def test_older_versions_of_cryptography_do_as_well(pair, identity, monkeypatch) -> None:
    """They have no encrypt_into."""
    from phypan.sealing import chunks, keys

    class Old:
        def __init__(self, key: bytes) -> None:
            new = keys.cipher(key)
            self.encrypt, self.decrypt = new.encrypt, new.decrypt

    monkeypatch.setattr(chunks, "cipher", Old)
    data = random.Random(1).randbytes(3 * CHUNK)
    made = sealed(data, pair[1])
    assert pyrage.decrypt(made, [identity]) == data == opened(made, pair[0])
    with pytest.raises(phypan.InputError, match="altered"):
        opened(made[:-1] + bytes([made[-1] ^ 1]), pair[0])


@pytest.mark.parametrize("size", SIZES)
def test_phypan_opens_what_age_seals(pair, identity, size) -> None:
    data = random.Random(size).randbytes(size)
    assert opened(pyrage.encrypt(data, [identity.to_public()]), pair[0]) == data


def test_each_of_several_recipients_opens_it(tmp_path) -> None:
    public = [phypan.write_pair(tmp_path / str(number)) for number in range(3)]
    data = sealed(b"for three", *public)
    for number in range(3):
        assert opened(data, tmp_path / str(number)) == b"for three"
        identity = pyrage.x25519.Identity.from_str((tmp_path / str(number)).read_text().split()[-1])
        assert pyrage.decrypt(data, [identity]) == b"for three"


def test_recipients_of_other_kinds_are_passed_over(pair, identity) -> None:
    """A stanza that age puts in at random, or another program's."""
    other = age.Stanza("example.org/other", ("a", "b"), bytes(100))
    from phypan.sealing import keys
    from phypan.sealing.chunks import Chunks

    file_key = bytes(range(16))
    (public,) = recipients([pair[1]])
    signed = age.write_signed([other, keys._wrapped(file_key, public)])
    head = signed + age.write_mac(keys._mac(file_key, signed)) + bytes(16)
    chunk = memoryview(bytearray(5 + age.TAG_SIZE))
    Chunks(file_key, bytes(16)).seal(0, b"hello", chunk, last=True)
    data = head + bytes(chunk)
    assert opened(data, pair[0]) == pyrage.decrypt(data, [identity]) == b"hello"


@pytest.fixture(scope="module")
def plain() -> bytes:
    return random.Random(7).randbytes(9 * CHUNK + 1000)


@given(st.data())
@settings(max_examples=100)
def test_any_part_reads_as_what_was_sealed(pair, plain, data) -> None:
    store = SealedStore(BytesStore(_sealed_once(pair[1], plain)), [pair[0]])
    for _ in range(5):
        at = data.draw(st.integers(0, len(plain)))
        size = data.draw(st.integers(0, min(len(plain) - at, 3 * CHUNK)))
        assert store.view(at, size) == plain[at : at + size]
        buffer = bytearray(size)
        store.readinto(at, memoryview(buffer))
        assert buffer == plain[at : at + size]
    with pytest.raises(phypan.InputError, match="of "):
        store.view(at, len(plain) - at + 1)


_made: dict[str, bytes] = {}


def _sealed_once(public: str, plain: bytes) -> bytes:
    if public not in _made:
        _made[public] = sealed(plain, public)
    return _made[public]


def test_without_the_right_key_nothing_is_told(pair, plain, tmp_path) -> None:
    data = _sealed_once(pair[1], plain)
    with pytest.raises(phypan.InputError, match=r"is sealed$") as caught:
        SealedStore(BytesStore(data), [])
    assert "--key" in caught.value.hint
    phypan.write_pair(tmp_path / "other")
    with pytest.raises(phypan.InputError, match="none of these keys"):
        SealedStore(BytesStore(data), [tmp_path / "other"])


def test_each_byte_of_the_header_altered_is_refused(pair, plain) -> None:
    data = bytearray(_sealed_once(pair[1], plain))
    head = age.read(data).size + age.NONCE_SIZE
    for at in range(head):
        for bit in (1, 0x20, 0x80):
            data[at] ^= bit
            with pytest.raises(phypan.PhypanError):
                opened(bytes(data), pair[0])
            data[at] ^= bit
    assert opened(bytes(data), pair[0]) == plain


def test_a_thousand_places_of_the_body_altered_are_refused_with_the_place(pair, plain) -> None:
    data = bytearray(_sealed_once(pair[1], plain))
    head = age.read(data).size + age.NONCE_SIZE
    numbers = random.Random(3)
    for _ in range(1000):
        at = numbers.randrange(head, len(data))
        data[at] ^= 1 << numbers.randrange(8)
        chunk = (at - head) // SEALED
        inside = min(chunk * CHUNK, len(plain) - 1)
        with pytest.raises(phypan.InputError, match=f"chunk {chunk} at byte") as caught:
            SealedStore(BytesStore(bytes(data)), [pair[0]]).view(inside, 1)
        assert f"{head + chunk * SEALED:#x}" in str(caught.value)
        data[:] = _sealed_once(pair[1], plain)


def test_it_is_refused_wherever_it_was_cut(pair, plain) -> None:
    """At every border of a chunk, around it, and in the header."""
    data = _sealed_once(pair[1], plain)
    head = age.read(data).size + age.NONCE_SIZE
    borders = [head + number * SEALED for number in range(10)]
    cuts = {cut for at in borders for cut in (at - 1, at, at + 1, at + 15, at + 16, at + 17)}
    for cut in sorted({*cuts, *range(0, head, 7), len(data) - 1}):
        with pytest.raises(phypan.PhypanError):
            SealedStore(BytesStore(data[:cut]), [pair[0]])
    with pytest.raises(phypan.InputError, match="cut short or altered"):
        SealedStore(BytesStore(data + b"\0"), [pair[0]])


def test_chunks_that_changed_places_are_refused(pair, plain) -> None:
    data = _sealed_once(pair[1], plain)
    head = age.read(data).size + age.NONCE_SIZE
    one, two = (slice(head + n * SEALED, head + (n + 1) * SEALED) for n in (1, 2))
    swapped = data[: one.start] + data[two] + data[one] + data[two.stop :]
    store = SealedStore(BytesStore(swapped), [pair[0]])
    assert store.view(0, CHUNK) == plain[:CHUNK]
    with pytest.raises(phypan.InputError, match="chunk 1 "):
        store.view(CHUNK, 1)


@given(st.binary(max_size=400))
def test_a_header_of_anything_is_refused_and_never_fails(pair, data) -> None:
    with pytest.raises(phypan.PhypanError):
        SealedStore(BytesStore(age.MAGIC + data), [pair[0]])
