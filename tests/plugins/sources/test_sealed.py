"""A sealed dump is a dump to every command, once it has the key."""

from __future__ import annotations

import subprocess

import pyrage
import pytest

import phypan
from tests.platform_model.test_simulation import assert_memory_is_what_it_was


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sealed")
    simulation = phypan.simulate(folder / "crashed", memory="1G")
    public = phypan.write_pair(folder / "key")
    phypan.write_pair(folder / "other")
    with phypan.open(folder / "crashed") as dump:
        phypan.convert(dump, folder / "sealed", seal_for=[public])
        phypan.convert(dump, folder / "small", format="kdump", seal_for=[public])
    return folder, simulation


@pytest.mark.parametrize("name", ["sealed", "small"])
def test_it_holds_all_that_was_converted(made, name) -> None:
    folder, simulation = made
    assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert not list(folder.glob("*.incomplete"))
    with phypan.open(folder / name, keys=[folder / "key"]) as dump:
        assert assert_memory_is_what_it_was(dump, simulation.before)
        assert len(dump.cpus) == len(simulation.cpus)


def test_age_gives_what_makedumpfile_and_phypan_read(made, tmp_path) -> None:
    folder, simulation = made
    secret = (folder / "key").read_text().split()[-1]
    identity = pyrage.x25519.Identity.from_str(secret)
    (tmp_path / "flat").write_bytes(pyrage.decrypt((folder / "small").read_bytes(), [identity]))
    with phypan.open(tmp_path / "flat") as dump:
        assert assert_memory_is_what_it_was(dump, simulation.before)


def test_commands_need_the_key(made, phypan_command, tmp_path) -> None:
    folder, _ = made
    for command in (["info"], ["verify"], ["dmesg"], ["convert"]):
        words = [*command, folder / "small", *([tmp_path / "out"] * (command == ["convert"]))]
        refused = phypan_command(*words)
        assert refused.code == 1
        assert "is sealed" in refused.err
        assert "--key" in refused.err
        assert "none of these keys" in phypan_command(*words, "--key", folder / "other").err
        assert phypan_command(*words, "--key", folder / "key").code == 0
    assert (
        phypan_command("join", folder / "small", tmp_path / "j", "--key", folder / "key").code == 0
    )
    done = phypan_command("repair", folder / "small", tmp_path / "r", "--key", folder / "key")
    assert done.code == 0, done.err
    words = ("diff", folder / "crashed", folder / "small", "--section", "kernel")
    assert "is sealed" in phypan_command(*words).err
    assert phypan_command(*words, "--other-key", folder / "key").code == 0
    told = phypan_command("doctor", folder / "small", "--key", folder / "key").out
    assert "[memory]" in told or "memory" in told


def test_a_key_is_made_by_a_command(phypan_command, tmp_path) -> None:
    done = phypan_command("keygen", tmp_path / "key")
    assert done.out.startswith("age1")
    secret = (tmp_path / "key").read_text().split()[-1]
    assert str(pyrage.x25519.Identity.from_str(secret).to_public()) == done.out.strip()
    assert phypan_command("keygen", tmp_path / "key").code == 1


def test_an_altered_chunk_ends_a_conversion_with_the_place(made, phypan_command, tmp_path) -> None:
    folder, _ = made
    data = bytearray((folder / "sealed").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "altered").write_bytes(data)
    words = ["convert", tmp_path / "altered", tmp_path / "out", "--key", folder / "key"]
    done = phypan_command(*words)
    assert done.code == 1
    assert "was altered" in done.err
    assert "chunk" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_it_is_written_to_a_pipe_and_read_from_one(made, tmp_path) -> None:
    folder, simulation = made
    public = (folder / "key").read_text().split()[3]
    import sys

    phypan_ = f"{sys.executable} -m phypan"
    command = (
        f"{phypan_} convert {folder}/crashed - --seal-for {public} 2>/dev/null | "
        f"{phypan_} convert - {tmp_path}/vmcore --key {folder}/key"
    )
    subprocess.run(command, shell=True, check=True)
    with phypan.open(tmp_path / "vmcore") as dump:
        assert assert_memory_is_what_it_was(dump, simulation.before)


def test_nobody_to_seal_for_is_no_sealing_for_nobody(made, phypan_command, tmp_path) -> None:
    folder, _ = made
    (tmp_path / "empty").write_text("# nobody yet\n")
    words = ("convert", folder / "crashed", tmp_path / "out")
    done = phypan_command(*words, "--seal-for", tmp_path / "empty")
    assert done.code == 1
    assert "has no keys" in done.err
    assert not list(tmp_path.glob("out*"))
