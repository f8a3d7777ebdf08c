"""The header of an age file and keys as text, against the text of BIP 173 and of the format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import age

# No base64 in this header is longer than a line; the MAC is 32 zeros.
HEADER = (
    b"age-encryption.org/v1\n"
    b"-> X25519 arg\n"
    b"AAEC\n"
    b"-> other\n"
    b"\n"
    b"--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
)
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
STANZAS = st.lists(
    st.builds(age.Stanza, NAMES, st.lists(NAMES).map(tuple), st.binary(max_size=200)), min_size=1
)


def test_a_header_is_what_its_description_says() -> None:
    header = age.read(HEADER + b"payload")
    assert header.stanzas == [
        age.Stanza("X25519", ("arg",), b"\0\1\2"), age.Stanza("other", (), b"")
    ]  # fmt: skip
    assert header.mac == bytes(32)
    assert HEADER.startswith(header.signed)
    assert header.signed.endswith(b"\n---")
    assert header.size == len(HEADER)


@given(STANZAS, st.binary(min_size=32, max_size=32))
def test_what_is_written_is_read(stanzas, mac) -> None:
    data = age.write_signed(stanzas) + age.write_mac(mac)
    header = age.read(data + b"more")
    assert (header.stanzas, header.mac, header.size) == (stanzas, mac, len(data))
    assert data.startswith(header.signed)


@given(st.integers(0, len(HEADER) - 1), st.integers(1, 255))
def test_a_changed_byte_is_seen_as_another_header_or_none(at, by) -> None:
    """Nothing is read in two ways: what is signed, or the MAC, is then another."""
    changed = bytearray(HEADER)
    changed[at] ^= by
    before = age.read(HEADER)
    try:
        header = age.read(bytes(changed))
    except BadRecord:
        return
    assert (header.signed, header.mac) != (before.signed, before.mac)


@pytest.mark.parametrize(
    "text", [b"AA", b"AAA=", b"AAB", b"A", b"AA A", b"AAEC\r", b"AAA_"][1:]
)  # fmt: skip
def test_base64_has_one_form(text) -> None:
    with pytest.raises(BadRecord):
        age.unpadded(text)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"age-encryption.org/v2\n" + HEADER[22:],
        HEADER[:-1],
        age.MAGIC + HEADER[HEADER.index(b"---") :],
        HEADER.replace(b"-> other", b"->other"),
        HEADER.replace(b"-> other", b"-> "),
        HEADER.replace(b"AAEC\n", b"A" * 68 + b"\n"),
        HEADER.replace(b"---", b"--- "),
        age.MAGIC + b"-> X25519\n" + (b"A" * 64 + b"\n") * 2000,
    ],
)
def test_what_is_no_header_is_refused(data) -> None:
    with pytest.raises(BadRecord):
        age.read(data)


def test_bech32_is_that_of_its_proposal() -> None:
    """BIP 173, test vectors: 32 values 0 to 31 under the prefix "abcdef"."""
    text = "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw"
    values = range(32)
    assert (
        age._polymod([*age._expanded("abcdef"), *values, *map(age._ALPHABET.index, "mqqqxw")]) == 1
    )
    assert text.endswith("mqqqxw")
