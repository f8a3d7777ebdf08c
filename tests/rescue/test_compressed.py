"""A capture in makedumpfile's format: whole, checked and named before any memory is given back."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

import phypan
from tests import real_dumps
from tests.made_dumps import same_memory
from tests.platform_model.test_simulation import assert_memory_is_what_it_was
from tests.rescue import rig as rescue_rig

GONE = "no dump is waiting"


@pytest.mark.parametrize("codec", ["zlib", "lzo", "snappy", "zstd", "none"])
def test_it_holds_the_memory_before_the_crash(world, crashed, codec) -> None:
    outcome = world.capture(compress=codec)
    assert outcome.error is None
    assert outcome.result.whole
    assert outcome.result.compressed
    assert outcome.result.released == world.boot.reserve_size
    with phypan.open(world.target) as dump:
        assert dump.format == "kdump"
        assert assert_memory_is_what_it_was(dump, crashed.before)
    rescue_rig.assert_all_is_well(world, rescue_rig.content(world.target))


@pytest.mark.parametrize("part", range(2))
def test_killed_it_begins_anew_and_loses_nothing(crashed, part) -> None:
    with rescue_rig.world(crashed) as world:
        calls = world.capture(compress="zlib").calls
        whole = rescue_rig.content(world.target)
    assert calls > 60
    points = {*range(0, 16, 5), *range(30, calls - 30, 60), *range(calls - 30, calls, 3)}
    for number in sorted(points)[part::2]:
        with rescue_rig.world(crashed) as world:
            first = world.capture(compress="zlib", kill_at=number)
            named = world.target.exists()
            assert named or not world.freed, "nothing is given back before"
            second = world.capture(compress="zlib", resume=True)
            if first.code == 9 and not (second.error and GONE in second.error):
                assert second.error is None, (number, second.error)
            rescue_rig.assert_all_is_well(world, whole)


def test_a_full_disk_gives_nothing_back(world, crashed) -> None:
    def install() -> None:
        def pwrite(fd: int, data: bytes, at: int) -> int:
            if os.readlink(f"/proc/self/fd/{fd}").endswith("vmcore.incomplete") and at > 65536:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, data, at)

        real, os.pwrite = os.pwrite, pwrite

    outcome = world.capture(compress="zlib", patch=install)
    assert "No space left on device" in outcome.error
    assert world.freed == 0
    assert world.capture(compress="zlib", resume=True).error is None
    assert world.unsaved == 0
    assert world.boot.rounds == 1


def test_a_disk_that_gives_back_other_bytes_frees_nothing(world) -> None:
    def install() -> None:
        real = os.replace

        def replace(source: str, target: str) -> None:
            real(source, target)
            if str(target) == str(world.target):
                with open(target, "r+b") as file:
                    file.seek(-100, os.SEEK_END)
                    file.write(bytes(50))

        os.replace = replace

    outcome = world.capture(compress="zlib", patch=install)
    assert "is not what was written" in outcome.error
    assert world.freed == 0


@pytest.mark.real
@pytest.mark.parametrize("words", [("-z", "-d", "31"), ("-d", "17"), ("-E", "-d", "31")])
def test_letters_mean_what_they_mean_to_convert(
    real_dump, vmcores, phypan_command, tmp_path, monkeypatch, words
) -> None:
    """On the files of a real fadump kernel's second boot."""
    monkeypatch.setenv("PHYPAN_RUN", str(tmp_path / "run"))
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (root / "sys/kernel/fadump").mkdir(parents=True)
    (root / "sys/kernel/fadump/release_mem").write_bytes(b"")
    # A copy: a capture wants it alone, and other tests read that one at the same time.
    kernels = vmcores(real_dump(real_dumps.NAMES[0])).kernels
    subprocess.run(["cp", "--sparse=always", kernels, root / "proc/vmcore"], check=True)
    done = phypan_command("capture", *words, "--root", root, tmp_path / "captured", "--release")
    assert done.code == 0, done.err
    assert (root / "sys/kernel/fadump/release_mem").read_bytes() == b"1\n"
    done = phypan_command("convert", *words, root / "proc/vmcore", tmp_path / "converted")
    assert done.code == 0, done.err
    with phypan.open(tmp_path / "captured") as one, phypan.open(tmp_path / "converted") as two:
        assert one.format == two.format == ("elf" if "-E" in words else "kdump")
        assert one.dump_level == two.dump_level
        same_memory(one.memory, two.memory)
