"""A guest that crashes and saves the dump by itself in its second boot, with a real kernel's files.

Its disk has Debian's Python for ppc64el with the packages that a capture needs, and no others, and
phypan. What its scripts (guest/) print is between "== NAME" and "== exit CODE".
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import phypan
from phypan.platform.qemu import cpio, event_loop, machine
from phypan.platform.qemu.guest_memory import make_sparse
from phypan.platform.qemu.machine import Machine, Mmu
from phypan.platform.qemu.session import session

GUEST = Path(__file__).parent / "guest"
MEMORY = 1280 << 20  # bytes: the least with which Linux keeps a place for a dump beside its own
DISK = 4 << 30
_PATIENCE = 240  # seconds without a word from the guest
_SAID = re.compile(r"^== (\w+)\n(.*?)^== exit (\d+)$", re.MULTILINE | re.DOTALL)
_APPLETS = "sh ls cat dd grep dmesg sleep kill sed stat mkdir chmod".split()
_LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "gconv", "doc", "locale", "man", "i18n", "charmaps", "dpkg*", "test"
)


@dataclass(frozen=True)
class Boots:
    """What became of a guest.

    console  what all of its boots printed
    cores    of each crash, /proc/vmcore as the kernel showed it
    disk     the image of its disk
    """

    console: str
    cores: tuple[Path, ...]
    disk: Path

    def said(self, boot: int) -> dict[str, tuple[str, int]]:
        """(what it printed, exit code) of each command that a boot told of."""
        text = self.console.partition(f"PHYPAN: boot {boot}\n")[2]
        text = text.partition(f"PHYPAN: boot {boot} is at its end")[0]
        return {name: (said, int(code)) for name, said, code in _SAID.findall(text)}

    def fetch(self, path: str, into: Path) -> Path:
        """The file at `path` on the disk, copied to `into`."""
        command = ["debugfs", "-R", f"dump {path} {into}", self.disk]
        subprocess.run(command, check=True, capture_output=True)
        assert into.stat().st_size, f"{path} is not on the guest's disk, or is empty"
        make_sparse(into)
        return into

    def names(self, path: str) -> list[str]:
        """What is in a folder of the disk."""
        done = subprocess.run(
            ["debugfs", "-R", f"ls -p {path}", self.disk],
            check=True,
            capture_output=True,
            text=True,
        )
        # /INODE/MODE/UID/GID/NAME/SIZE/
        names = [line.split("/")[5] for line in done.stdout.splitlines() if line.count("/") > 5]
        return sorted(name for name in names if name not in (".", ".."))


def run(pieces: Path, folder: Path, mmu: Mmu) -> Boots:
    """Boot the guest, and let it do all it does."""
    busybox = (pieces / "busybox-le" / "busybox").read_bytes()
    (folder / "initrd").write_bytes(
        cpio.write([
            *(cpio.directory(name) for name in ("bin", "dev", "proc")),
            cpio.character_device("dev/console", 5, 1),
            cpio.program("bin/busybox", busybox),
            cpio.program("init", (GUEST / "init").read_bytes()),
        ])
    )  # fmt: skip
    disk = _disk(pieces, folder, busybox)
    cores = tuple(folder / f"vmcore.{number}" for number in (1, 2))
    for core in cores:
        core.touch()
        with core.open("r+b") as file:
            file.truncate(MEMORY + (64 << 20))
    guest = Machine(
        cpu=machine.DEFAULT_CPU[mmu], mmu=mmu, cpus=2, memory=MEMORY,
        kernel=pieces / "6.12-le64k" / "vmlinux", initrd=folder / "initrd",
        append="fadump=on crashkernel=320M", disk=disk,
    )  # fmt: skip
    program = [str(pieces / "qemu" / "qemu-system-ppc64"), "-machine", "x-vof=on"]
    for core in cores:
        node, slot = core.name.replace(".", ""), core.suffix[1:]  # the guest's disk is before them
        options = "discard=unmap,detect-zeroes=unmap,file.driver=file"
        program += ["-blockdev", f"raw,node-name={node},{options},file.filename={core}"]
        program += ["-device", f"virtio-blk-pci,drive={node},addr=0x1{slot}"]
    console = event_loop.finish(_boots(guest, program, folder))
    checked = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    return Boots(console, cores, disk)


async def _boots(guest: Machine, program: list[str], folder: Path) -> str:
    async with session(
        guest, program, folder, patience=_PATIENCE, report=lambda line: None
    ) as running:
        await running.until("the first crash", events=("SHUTDOWN", "GUEST_PANICKED"))
        await running.stop()
        await running.reset()  # from here on it starts anew by itself when it crashes
        await running.until("the end", console="PHYPAN: boot 4 is at its end")
        await running.ended()
        return running.console.text


def _disk(pieces: Path, folder: Path, busybox: bytes) -> Path:
    """A disk that is the root of the second boot."""
    tree = folder / "tree"
    root = pieces / "python-ppc64le" / "root"
    shutil.copytree(root, tree, symlinks=True, ignore=_LEFT_OUT)
    for name in ("proc", "sys", "dev", "etc", "tmp", "run", "root", "srv", "var/crash"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    (tree / "bin" / "busybox").write_bytes(busybox)
    (tree / "bin" / "busybox").chmod(0o755)
    for name in _APPLETS:
        (tree / "bin" / name).symlink_to("busybox")
    packages = tree / "usr" / "lib" / "python3" / "dist-packages"
    code = Path(phypan.__file__).parent
    shutil.copytree(code, packages / "phypan", ignore=shutil.ignore_patterns("__pycache__"))
    (packages / "phypan.dist-info").mkdir()
    told = metadata.distribution("phypan").read_text("METADATA") or ""
    (packages / "phypan.dist-info" / "METADATA").write_text(told)
    for name in ("told", "server", "boot1", "boot2", "boot3", "boot4"):
        shutil.copy(GUEST / name, tree)
    (tree / "etc" / "phypan.toml").write_text("release = true\n")
    _compile(tree / "usr" / "lib")
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(DISK)
    command = ["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", tree, disk]
    subprocess.run(command, check=True)
    shutil.rmtree(tree)
    return disk


def _compile(tree: Path) -> None:
    """Compile Python's modules here, where that is of use: it takes an emulated CPU long."""
    for library in tree.glob("python3*"):
        if library.name in (f"python3.{sys.version_info[1]}", "python3"):
            words = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", library]
            subprocess.run([sys.executable, *words], check=False, stdout=subprocess.DEVNULL)
