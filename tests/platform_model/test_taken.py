"""Dumps that were taken before, served as the second boot that finds them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

import phypan
from phypan.formats import device_tree
from phypan.platform import simulation, taken
from tests import mounting
from tests.makedumpfiles import filtered_by, kept
from tests.platform_model.test_simulation import assert_memory_is_what_it_was

MIB = 1 << 20


@pytest.mark.real
def test_it_is_the_vmcore_that_the_real_kernel_built(real) -> None:
    """Head and notes byte for byte, and of one of them all memory."""
    vmcore = taken.second_boot(real.path).files()["proc/vmcore"]
    head = real.vmcore_head
    assert vmcore.read(0, len(head)) == head
    at = len(head)
    loads = real.loads if real.name == "le-hash8" else []
    for load in loads:
        truth = hashlib.sha256()
        at += load["paddr"] % 65536
        for place in range(at, at + load["size"], 16 * MIB):
            truth.update(vmcore.read(place, min(16 * MIB, at + load["size"] - place)))
        assert truth.hexdigest() == load["sha256"]
        at += load["size"] + -load["size"] % 65536


@pytest.mark.real
def test_makedumpfile_and_capture_work_on_a_real_kernels_memory(
    real_dump, makedumpfile, vmcores, tmp_path
) -> None:
    real = real_dump("le-radix10")
    ram = real.ram.stat()
    with mounting.mounted(tmp_path / "m", "--from", str(real.path)) as place:
        said = filtered_by(
            makedumpfile, place / "proc/vmcore", tmp_path / "theirs", "-c", "-d", "31"
        )
        reserved = int((place / "sys/kernel/fadump/mem_reserved").read_text())
        capture = [*mounting.PHYPAN, "capture", "-l", "-d", "31", "--release", "--root", place]
        subprocess.run([*capture, tmp_path / "ours"], capture_output=True, check=True)
        told = mounting.state(place)
        assert not told["dump_waiting"]
        # A kernel since 6.10, which has freed the page with the next dump's header, is not asked.
        assert told["registered_anew"] == (reserved % 4096 == 0)
        assert told["released"]
        assert not (place / "proc/device-tree/rtas/ibm,kernel-dump").exists()
        assert not (place / "proc/vmcore").exists()
        assert (place / "proc/device-tree/rtas/ibm,configure-kernel-dump").exists()
    of_file = filtered_by(makedumpfile, vmcores(real).ours, tmp_path / "again", "-c", "-d", "31")
    assert said["Remaining pages"] == of_file["Remaining pages"]
    with phypan.open(tmp_path / "theirs") as one, phypan.open(tmp_path / "ours") as other:
        assert [n // 65536 for n, _ in kept(one)] == [n // 65536 for n, _ in kept(other)]
        for at, size in kept(other)[::50]:
            assert one.memory.read(at, size) == other.memory.read(at, size)
    assert real.ram.stat() == ram, "the dump itself stays as it is"


@pytest.mark.parametrize("kernel", ["5.10", "6.12"])
def test_it_is_the_second_boot_that_was_saved(kernel, tmp_path) -> None:
    done = phypan.simulate(
        tmp_path / "crashed", kernel=kernel, memory="256M", boot_memory="32M", page_size=4096
    )
    boot = taken.second_boot(tmp_path / "crashed")
    expected, found = done.boot.files(), boot.files()
    assert boot.layout.end == done.boot.layout.end
    same = (*(name for name in expected if name.startswith("proc/device-tree")),
            "sys/kernel/debug/powerpc/fadump_region", "sys/kernel/fadump/mem_reserved")  # fmt: skip
    for name in same:
        assert found[name].read(0, 65536) == expected[name].read(0, 65536), name
    vmcore, truth = found["proc/vmcore"], expected["proc/vmcore"]
    assert vmcore.size == truth.size
    for at in range(0, truth.size, 16 * MIB):
        assert vmcore.read(at, 16 * MIB) == truth.read(at, 16 * MIB)
    size = (tmp_path / "crashed/ram").stat().st_size
    found["sys/kernel/fadump/release_mem"].write(b"1")
    after = boot.files()
    assert "proc/vmcore" not in after
    after["sys/kernel/fadump/registered"].write(b"1")
    assert boot.rounds == 1
    assert boot.hypervisor.registered.sections == done.boot.guest.sections()
    assert boot.lpar.memory.read(200 * MIB, 16) != bytes(16), "somebody else's now"
    with phypan.open(tmp_path / "crashed") as dump:
        assert assert_memory_is_what_it_was(dump, done.before)
    assert (tmp_path / "crashed/ram").stat().st_size == size


def test_what_cannot_be_served_is_told(tmp_path, phypan_command) -> None:
    folder = tmp_path / "crashed"
    done = phypan.simulate(memory="160M", boot_memory="32M")
    simulation.save(done, folder, {})
    tree = device_tree.read((folder / "boot2.dtb").read_bytes())
    plain = tmp_path / "plain"
    shutil.copytree(folder, plain)
    tree.child("rtas").properties.pop("ibm,kernel-dump")
    (plain / "boot2.dtb").write_bytes(device_tree.write(tree))
    with pytest.raises(phypan.Unsupported, match="no ibm,kernel-dump"):
        taken.second_boot(plain)
    (plain / "boot2.dtb").unlink()
    with pytest.raises(phypan.InputError):
        taken.second_boot(plain)
    (plain / "ram").write_bytes(b"short")
    with pytest.raises(phypan.InputError, match="5 bytes"):
        taken.second_boot(plain)
    for words in (("-o", tmp_path / "x"), ("--mount", tmp_path, "--memory", "1G"), ()):
        refused = phypan_command("simulate", "--from", folder, *words)
        assert refused.code == 2, refused.err
    (tmp_path / "at").mkdir()
    missing = phypan_command("simulate", "--from", tmp_path / "none", "--mount", tmp_path / "at")
    assert missing.code == 1
    assert "none" in missing.err
    assert json.loads((folder / "meta.json").read_text())["guest"] == "synthetic"


def test_a_dump_whose_kernel_wrote_no_header_has_no_vmcore(tmp_path) -> None:
    phypan.simulate(
        Path(tmp_path / "crashed"), memory="160M", boot_memory="32M", fault=("no-header",)
    )
    files = taken.second_boot(tmp_path / "crashed").files()
    assert "proc/vmcore" not in files
    assert "proc/device-tree/rtas/ibm,kernel-dump" in files
