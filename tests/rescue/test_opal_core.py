"""The firmware's own core of a bare-metal dump: saved before the kernel drops it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import phypan
from tests.rescue import rig as rescue_rig


def opal_core() -> bytes:
    """As opal-core.c makes it: ELFDATA2MSB, e_flags 0, one PT_NOTE, PT_LOADs of firmware memory."""
    status = bytes(112) + struct.pack(">48Q", *range(48)) + bytes(8)
    note = struct.pack(">III", 5, len(status), 1) + b"CORE".ljust(8, b"\0") + status
    head = struct.pack(
        ">4s5B7xHHIQQQIHHHHHH",
        b"\x7fELF", 2, 2, 1, 0, 0, 4, 21, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0,
    )  # fmt: skip
    data = b"OPAL skiboot".ljust(8192, b".")
    at = 64 + 2 * 56 + len(note)
    loads = struct.pack(">IIQQQQQQ", 4, 0, 176, 0, 0, len(note), len(note), 0)
    loads += struct.pack(">IIQQQQQQ", 1, 7, at, 0, 0x30000000, len(data), len(data), 0)
    return head + loads + note + data


@pytest.fixture
def bare_metal(tmp_path, monkeypatch) -> Path:
    """A second boot's files, as plain ones, with OPAL's among them."""
    monkeypatch.setenv("PHYPAN_RUN", str(tmp_path / "run"))
    crashed = phypan.simulate(kernel="6.12", memory="1G", boot_memory="128M", cpus=2)
    with rescue_rig.world(crashed) as world:
        folder = world.root / "sys/firmware/opal/mpipl"
        folder.mkdir(parents=True)
        (folder / "core").write_bytes(opal_core())
        (folder / "release_core").write_bytes(b"")
        yield world.root


def given(root: Path, name: str) -> bytes:
    return (root / "sys" / name).read_bytes()


def test_it_is_saved_and_opens_and_then_it_is_given_back(bare_metal, tmp_path) -> None:
    done = phypan.capture(tmp_path / "vmcore", root=bare_metal, release=True)
    assert done.whole
    saved = tmp_path / "vmcore.opalcore"
    assert saved.read_bytes() == opal_core()
    assert given(bare_metal, "firmware/opal/mpipl/release_core") == b"1\n"
    assert given(bare_metal, "kernel/fadump/release_mem") == b"1\n"
    with phypan.open(saved) as dump:
        assert dump.byte_order == "little", "of the kernel, as MSR tells: 33 has the bit LE"
        assert dump.memory.read(0x30000000, 12) == b"OPAL skiboot"
        assert dump.cpus[0].kernel["msr"] == 33


def test_where_it_cannot_be_saved_it_is_not_given_back(bare_metal, tmp_path) -> None:
    (tmp_path / "vmcore.opalcore").write_bytes(b"another one")
    done = phypan.capture(tmp_path / "vmcore", root=bare_metal, release=True)
    assert any("firmware's core" in problem.what for problem in done.problems)
    assert given(bare_metal, "firmware/opal/mpipl/release_core") == b""
    assert given(bare_metal, "kernel/fadump/release_mem") == b"1\n", "the dump itself is safe"
    assert (tmp_path / "vmcore.opalcore").read_bytes() == b"another one"


def test_status_tells_of_it(bare_metal, phypan_command) -> None:
    done = phypan_command("status", "--root", bare_metal)
    assert "the firmware's own core waits too" in done.out
    assert "reserved: " in done.out
    assert "unknown" not in done.out
