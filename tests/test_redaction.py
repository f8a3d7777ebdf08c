"""What rules find goes, page by page, and is reported with its place; all else stays as it was."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phypan
from phypan import BytesStore, Dump, Extent, Hole, Memory, PageState, redaction
from phypan.manager import Registry
from tests import strangers
from tests.made_dumps import made

PAGE = 4096
SECRETS = {  # as their owners' documents show them
    "private-key": b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPE",
    "password-hash": b"r:$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwn",
    "authorization": b"Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    "jwt": b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9Pl",
    "cloud-key": b"AKIAIOSFODNN7EXAMPLE ",
    "forge-token": b"ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "password": b"PASSWORD=hunter2",
}
RULES = Registry(third_party=False).secrets


def dump_of(data: bytes, cut: int | None = None) -> Dump:
    """A dump whose memory is `data`, in one file or in two that follow each other."""
    dump = made([0])
    store = BytesStore(data)
    size = len(data) if cut is None else cut
    extents = [Extent(0, size, store, 0)]
    if size < len(data):
        extents.append(Extent(size, len(data) - size, BytesStore(data[size:]), 0))
    dump.memory = Memory(extents)
    return dump


def test_there_is_an_example_of_every_rule() -> None:
    assert SECRETS.keys() == RULES.keys()


@pytest.mark.parametrize("name", SECRETS)
@given(place=st.integers(0, 6 * PAGE - 200), chunk=st.sampled_from([PAGE, 3 * PAGE, 1 << 22]))
@settings(max_examples=30)
def test_a_secret_is_found_wherever_it_lies(name, place, chunk) -> None:
    data = bytearray(b"\xa5" * 6 * PAGE)
    secret = SECRETS[name]
    data[place : place + len(secret)] = secret
    before, redaction._CHUNK = redaction._CHUNK, chunk
    try:
        done = redaction.redacted(dump_of(bytes(data)), RULES, 0)
    finally:
        redaction._CHUNK = before
    places = {entry.address for entry in done.report if entry.what == name}
    assert any(place <= found < place + len(secret) for found in places)
    first = min(places) // PAGE
    for page in range(6):
        piece = done.dump.memory.at(page * PAGE)
        if first <= page <= (place + len(secret) - 1) // PAGE:
            assert isinstance(piece, Hole)
            assert (piece.state, piece.why) == (
                PageState.EXCLUDED, f"redacted: {RULES[name].help}",
            )  # fmt: skip
        else:
            there = done.dump.memory.read(page * PAGE, PAGE)
            assert there == data[page * PAGE : (page + 1) * PAGE]


@given(st.binary(max_size=3 * PAGE))
def test_of_noise_what_stays_is_as_it_was_and_every_hole_is_reported(noise) -> None:
    data = noise.ljust(3 * PAGE, b"\0")
    done = redaction.redacted(dump_of(data), RULES, 0)
    gone = sum(entry.pages for entry in done.report)
    here = [n for n in range(3) if not isinstance(done.dump.memory.at(n * PAGE), Hole)]
    assert len(here) + gone == 3
    for page in here:
        part = data[page * PAGE : (page + 1) * PAGE]
        assert done.dump.memory.read(page * PAGE, PAGE) == part


@pytest.mark.parametrize("kind", ["kdump", "elf"])
def test_no_byte_of_a_secret_is_in_the_file(tmp_path, kind) -> None:
    data = bytearray(40 * PAGE)
    for number, secret in enumerate(SECRETS.values()):
        at = (5 * number + 1) * PAGE + 77
        data[at : at + len(secret)] = secret
        data[at + PAGE : at + PAGE + 5] = b"stays"
    rows = list(phypan.redact(dump_of(bytes(data)), tmp_path / "out", dump_level=0, format=kind))
    assert {row.what for row in rows} == SECRETS.keys()
    with phypan.open(tmp_path / "out") as dump:
        for number in range(len(SECRETS)):
            at = (5 * number + 1) * PAGE
            with pytest.raises(phypan.NotInDump):
                dump.memory.read(at + 77, 1)
            assert dump.memory.read(at + PAGE + 77, 5) == b"stays"
    if kind == "elf":
        file = (tmp_path / "out").read_bytes()
        assert not [name for name, secret in SECRETS.items() if secret in file]


def test_a_stranger_adds_a_rule(tmp_path, monkeypatch) -> None:
    rule = phypan.Secret("badge", "numbers of badges", (b"badge:",), re.compile(rb"badge:\d{4}"))
    plugin = strangers.module(secrets=[rule])
    strangers.install(monkeypatch, [strangers.Point("badges", lambda: plugin)])
    monkeypatch.setattr("phypan.api._loaded", None)
    dump = dump_of(b"x" * PAGE + b"badge:1234".ljust(PAGE, b"x") + b"badge:none".ljust(PAGE, b"x"))
    (row,) = phypan.redact(dump, tmp_path / "out", dump_level=0)
    assert (row.what, row.pages, row.address) == ("badge", 1, PAGE)
    assert not list(phypan.redact(dump, tmp_path / "2", dump_level=0, rules=["jwt"]))
    with pytest.raises(phypan.Unsupported, match="no rule 'nonsense'"):
        phypan.redact(dump, tmp_path / "3", dump_level=0, rules=["nonsense"])


def test_without_struct_pages_users_pages_cannot_be_told_and_nothing_is_written(tmp_path) -> None:
    with pytest.raises(phypan.Unsupported, match="which pages are users'"):
        phypan.redact(dump_of(bytes(PAGE)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.real
def test_of_a_real_kernel_users_pages_and_caches_go_and_the_kernel_stays(
    real_dump, vmcores, tmp_path, phypan_command
) -> None:
    ours = vmcores(real_dump("le-radix10")).ours
    done = phypan_command("redact", ours, tmp_path / "out", "--report", tmp_path / "report")
    assert done.code == 0, done.err
    assert "no rule knows" in done.err
    report = json.loads((tmp_path / "report").read_text())
    kinds = {row["what"]: row["pages"] for row in report if row["address"] is None}
    assert kinds["user pages"] > 10
    assert kinds["free pages"] > 100
    with phypan.open(tmp_path / "out") as dump, phypan.open(ours) as whole:
        assert dump.dump_level & 30 == 30
        log = [row.text for row in phypan.run(whole, "dmesg")]
        assert [row.text for row in phypan.run(dump, "dmesg")] == log
