"""phypan in the second boot of a real kernel: on its /proc/vmcore, its sysfs, its device tree.

The guest crashes, saves the dump with `phypan save`, gives the memory back, starts anew, crashes
again, and saves that dump by the hook of kdump's. What it saved is looked at outside.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import phypan
from phypan.formats import elfcore, ppc_notes
from tests.made_dumps import same_memory
from tests.peers import program
from tests.real import second_boot
from tests.real.second_boot import Boots

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.boots
FREED = re.compile(r"fadump: freeing reserved memory \(0x([0-9a-f]+) - 0x([0-9a-f]+)\)")
RESERVED = re.compile(r"fadump: Reserving \d+MB of memory at 0x([0-9a-f]+) for preserving")
REGISTERED = "rtas fadump: Registration is successful!"


@pytest.fixture(scope="module", params=["radix", "hash"])
def boots(request, tmp_path_factory) -> Boots:
    for name in ("mke2fs", "debugfs", "e2fsck"):
        program(name)
    names = ["qemu", "busybox-le", "6.12-le64k", "python-ppc64le"]
    subprocess.run([sys.executable, ROOT / "scripts" / "real" / "get.py", *names], check=True)
    pieces = Path(os.environ.get("PHYPAN_CACHE", ROOT / ".cache")) / "real-kernels" / "pieces"
    made = second_boot.run(pieces, tmp_path_factory.mktemp("guest"), request.param)
    for boot, core in zip((2, 4), made.cores, strict=True):
        os.truncate(core, int(made.said(boot)["vmcore"][0]))
    return made


@pytest.fixture(scope="module")
def saved(boots, tmp_path_factory) -> Path:
    """What the unit's command saved: vmcore, and what is beside it."""
    folder = tmp_path_factory.mktemp("saved")
    (name,) = [name for name in boots.names("/var/crash") if name != "compressed"]
    assert boots.names(f"/var/crash/{name}") == ["vmcore", "vmcore-dmesg.txt"]
    for file in ("vmcore", "vmcore-dmesg.txt"):
        boots.fetch(f"/var/crash/{name}/{file}", folder / file)
    return folder


class Core:
    """A core file, read without phypan's sources."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self._core = elfcore.read(lambda at, size: os.pread(self._fd, size, at), 1 << 40)
        (notes,) = [part for part in self._core.segments if part.type == elfcore.PT_NOTE]
        data = os.pread(self._fd, notes.filesz, notes.offset)
        self.notes = list(elfcore.read_notes(data, self._core.order))
        self.loads = self._core.loads

    def registers(self) -> list[object]:
        return [
            ppc_notes.read_prstatus(note.data, self._core.order).regs
            for note in self.notes
            if note.name == b"CORE" and note.type == ppc_notes.NT_PRSTATUS
        ]

    def vmcoreinfo(self) -> list[str]:
        """Its lines, but for the one that phypan leaves out for drgn."""
        (data,) = (note.data for note in self.notes if note.name == b"VMCOREINFO")
        return [line for line in bytes(data).decode().split() if "CRASHTIME" not in line]

    def read(self, paddr: int, size: int) -> bytes:
        for load in self.loads:
            if load.paddr <= paddr and paddr + size <= load.paddr + load.filesz:
                return os.pread(self._fd, size, load.offset + paddr - load.paddr)
        raise AssertionError(f"{size:#x} bytes at {paddr:#x} are not in it")

    def close(self) -> None:
        os.close(self._fd)


def test_what_it_saved_is_what_the_kernel_showed(boots, saved) -> None:
    kernels, ours = Core(boots.cores[0]), Core(saved / "vmcore")
    assert sum(load.filesz for load in kernels.loads) > 900 << 20
    for load in kernels.loads:
        for paddr in range(load.paddr, load.paddr + load.filesz, 1 << 20):
            size = min(1 << 20, load.paddr + load.filesz - paddr)
            assert ours.read(paddr, size) == kernels.read(paddr, size), hex(paddr)
    assert len(kernels.registers()) == 2
    assert ours.registers() == kernels.registers()
    assert ours.vmcoreinfo() == kernels.vmcoreinfo()
    kernels.close()
    ours.close()
    with phypan.open(saved / "vmcore") as dump, phypan.open(boots.cores[0]) as shown:
        assert not dump.incomplete
        assert dump.crash_time == shown.crash_time is not None


def test_killed_in_the_middle_it_went_on(boots) -> None:
    said = boots.said(2)
    assert said["killed"][0].split() == ["vmcore.incomplete", "vmcore.journal"]
    assert "a capture is not complete: /var/crash/" in said["unfinished"][0]
    assert said["save"][1] == 0, said["save"][0]
    assert re.search(r"^/var/crash/\S+/vmcore: \d+ bytes", said["save"][0], re.MULTILINE)


def test_the_kernel_has_its_memory_back(boots) -> None:
    first, second = boots.said(1), boots.said(2)
    assert first["registered"][0] == "1\n"
    assert "another crash would be dumped: no" in second["status"][0]
    (start, end), *_ = FREED.findall(second["messages"][0])
    before, after = (int(second[name][0].split()[1]) << 10 for name in ("before", "after"))
    freed = int(end, 16) - int(start, 16)
    assert freed > 600 << 20
    assert freed <= after - before <= freed + (1 << 20)  # and a few pages of its notes
    assert second["again"][1] == 4
    assert second["files"][1] == 1, "/proc/vmcore is gone"


def test_it_registers_for_the_next_crash_or_says_why_that_must_wait(boots) -> None:
    """A kernel that has freed the page with the header of the next dump would lose that dump."""
    second = boots.said(2)
    first, reserved = int(RESERVED.search(boots.console)[1], 16), int(second["reserved"][0])
    freed = int(FREED.search(second["messages"][0])[1], 16)
    asked = REGISTERED in second["messages"][0].partition("freeing reserved memory")[2]
    if reserved % 4096:
        assert freed < first + reserved, "it has freed a page of what it keeps reserved"
        assert "has freed the page that the next dump's header is kept in" in second["save"][0]
        assert not asked
    else:
        assert freed >= first + reserved
        assert asked
    assert second["registered"][0] == f"{int(asked)}\n"
    assert boots.said(3)["registered"][0] == "1\n", "the next boot registers by itself"


def test_its_log_is_beside_it(boots, saved, tmp_path) -> None:
    log = (saved / "vmcore-dmesg.txt").read_text()
    assert "sysrq: Trigger a crash" in log
    with phypan.open(boots.cores[0]) as dump:
        rows = phypan.run(dump, "dmesg")
        assert log == "".join(f"{line}\n" for line in rows.text(rows))


def test_the_hook_of_kdumps_sends_the_next_dump_away(boots, tmp_path) -> None:
    said = boots.said(4)
    assert said["hook"][1] == 1, "kdump goes on to its final action: the dump is safe"
    (name,) = boots.names("/srv/dumps")
    assert boots.names(f"/srv/dumps/{name}") == ["vmcore", "vmcore-dmesg.txt"]
    log = boots.fetch(f"/srv/dumps/{name}/vmcore-dmesg.txt", tmp_path / "log").read_text()
    assert "sysrq: Trigger a crash" in log
    sent = boots.fetch(f"/srv/dumps/{name}/vmcore", tmp_path / "sent")
    with phypan.open(sent) as dump, phypan.open(boots.cores[1]) as kernels:
        assert dump.memory.size == kernels.memory.size > 900 << 20
        for extent in kernels.memory.extents:
            for at in range(extent.start, extent.start + extent.size, 1 << 20):
                size = min(1 << 20, extent.start + extent.size - at)
                assert dump.memory.read(at, size) == kernels.memory.read(at, size), hex(at)
        assert [cpu.kernel for cpu in dump.cpus] == [cpu.kernel for cpu in kernels.cpus]


def test_letters_mean_there_what_they_mean_here(boots, tmp_path, phypan_command) -> None:
    """Pages are left out by Python alone there, and by numba here."""
    assert boots.said(4)["letters"][1] == 0, boots.said(4)["letters"][0]
    there = boots.fetch("/var/crash/compressed", tmp_path / "there")
    done = phypan_command("convert", "-c", "-d", "31", boots.cores[1], tmp_path / "here")
    assert done.code == 0, done.err
    with phypan.open(there) as one, phypan.open(tmp_path / "here") as two:
        assert one.dump_level == two.dump_level == 31
        assert 0 < one.memory.size < 300 << 20
        same_memory(one.memory, two.memory)
