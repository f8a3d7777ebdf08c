"""Keys are age's own: those of an independent implementation are read, and ours by it."""

from __future__ import annotations

import os

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

import phypan
from phypan.formats import age
from phypan.sealing import keys


def test_a_pair_is_one_that_age_takes(tmp_path) -> None:
    public = keys.write_pair(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    comment, secret = (tmp_path / "key").read_text().splitlines()
    assert comment == f"# public key: {public}"
    assert str(pyrage.x25519.Identity.from_str(secret).to_public()) == public
    assert keys.identities([tmp_path / "key"]) == [age.read_key(age.IDENTITY, secret)]
    assert keys.new_pair() != keys.new_pair()


def test_a_file_of_keys_is_not_overwritten(tmp_path) -> None:
    (tmp_path / "key").write_text("precious")
    with pytest.raises(phypan.OutputError, match="exists"):
        phypan.write_pair(tmp_path / "key")
    assert (tmp_path / "key").read_text() == "precious"


def test_keys_of_age_are_read_and_written_as_they_are(tmp_path) -> None:
    made = [pyrage.x25519.Identity.generate() for _ in range(20)]
    lines = [f"# one\n{identity}\n\n" for identity in made]
    (tmp_path / "keys").write_text("".join(lines))
    for identity, secret in zip(made, keys.identities([tmp_path / "keys"]), strict=True):
        assert age.write_key(age.IDENTITY, secret) == str(identity)
        assert age.write_key(age.RECIPIENT, keys._public(secret)) == str(identity.to_public())


def test_recipients_are_keys_or_files_of_keys(tmp_path) -> None:
    texts = [keys.new_pair()[1] for _ in range(3)]
    (tmp_path / "team").write_text(f"# the team\n{texts[1]}\n  {texts[2]}  \n")
    expected = [age.read_key(age.RECIPIENT, text) for text in texts]
    assert keys.recipients([texts[0], str(tmp_path / "team")]) == expected


@given(st.binary(min_size=32, max_size=32), st.data())
def test_a_key_with_a_slip_of_the_pen_is_refused(key, data) -> None:
    text = age.write_key(age.RECIPIENT, key)
    assert age.read_key(age.RECIPIENT, text) == key
    at = data.draw(st.integers(4, len(text) - 1))
    other = data.draw(st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l").filter(text[at].__ne__))
    with pytest.raises(phypan.BadRecord, match="checksum"):
        age.read_key(age.RECIPIENT, text[:at] + other + text[at + 1 :])


def test_what_is_no_key_is_refused_with_its_place(tmp_path) -> None:
    secret, public = keys.new_pair()
    (tmp_path / "mixed").write_text(f"\n# fine\n{public}\n{secret}\n")
    with pytest.raises(phypan.InputError, match=r"mixed, line 4.*does not begin") as caught:
        keys.recipients([str(tmp_path / "mixed")])
    assert "secret" in caught.value.hint
    assert secret not in str(caught.value)
    with pytest.raises(phypan.InputError, match="line 3"):
        keys.identities([tmp_path / "mixed"])
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(phypan.InputError, match="has no keys"):
        keys.identities([tmp_path / "empty"])
    (tmp_path / "large").write_bytes(bytes(2 << 20))
    with pytest.raises(phypan.InputError, match="too large"):
        keys.identities([tmp_path / "large"])
    with pytest.raises(phypan.InputError, match="No such file"):
        keys.recipients(["nobody"])
    with pytest.raises(phypan.InputError, match="checksum"):
        keys.recipients([public[:-1] + ("q" if public[-1] != "q" else "p")])
    with pytest.raises(phypan.BadRecord, match="32 bytes"):
        age.read_key(age.RECIPIENT, age.write_key(age.RECIPIENT, os.urandom(31)))


def test_a_public_key_that_makes_everything_known_is_refused() -> None:
    """Points of small order: what both sides then share is zeros, for anybody."""
    with pytest.raises(phypan.InputError, match="not a key that can be used"):
        keys.write_header(bytes(16), [bytes(32)])


def test_without_cryptography_it_says_what_is_missing(monkeypatch) -> None:
    import sys

    name = "cryptography.hazmat.primitives.ciphers.aead"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(phypan.Unsupported, match="needs the package cryptography"):
        keys.new_pair()
