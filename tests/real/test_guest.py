"""A real kernel, booted and crashed by `phypan simulate`: what `make real` runs first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import phypan
from phypan.platform.qemu import cpio

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.boots


@pytest.fixture(scope="module")
def pieces() -> Path:
    """The folder with QEMU, a kernel and a busybox, got if they are not there."""
    names = ["qemu", "busybox-le", "6.12-le64k-module"]
    subprocess.run([sys.executable, ROOT / "scripts" / "real" / "get.py", *names], check=True)
    return Path(os.environ.get("PHYPAN_CACHE", ROOT / ".cache")) / "real-kernels" / "pieces"


def _options(pieces: Path) -> list[object]:
    return [
        "--guest", "qemu",
        "--qemu", f"{pieces / 'qemu' / 'qemu-system-ppc64'} -machine x-vof=on",  # no SLOF: fast
        "--kernel", pieces / "6.12-le64k" / "vmlinux",
    ]  # fmt: skip


def _initrd(pieces: Path, path: Path, script: str) -> Path:
    """Somebody else's initial RAM disk: a busybox, and a shell script as first process."""
    busybox = (pieces / "busybox-le" / "busybox").read_bytes()
    files = [
        *(cpio.directory(name) for name in ("bin", "dev", "proc")),
        cpio.character_device("dev/console", 5, 1),
        cpio.program("bin/busybox", busybox),
        cpio.program("init", f"#!/bin/busybox sh\n{script}\n".encode()),
    ]
    path.write_bytes(cpio.write(files))
    return path


def test_a_kernel_is_booted_and_crashed(pieces, folder, phypan_command) -> None:
    done = phypan_command(
        "simulate", "-o", folder / "dump", *_options(pieces), "--mmu", "radix", "--crash", "bug",
        "--busybox", pieces / "busybox-le" / "busybox",
        "--module", pieces / "6.12-le64k-module" / "phypan_crash.ko",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    with phypan.open(folder / "dump") as dump:
        assert dump.problems == []
        assert dump.vmcoreinfo is not None
        assert dump.vmcoreinfo.number("RADIX_MMU") == 1
        assert dump.crashing_cpu is not None
    assert "kernel BUG at" in (folder / "dump" / "console.log").read_text(errors="replace")


def test_a_kernel_that_hangs_is_given_up_and_leaves_no_process(
    pieces, folder, phypan_command
) -> None:
    """Its first process waits for ever, and has a child."""
    script = "echo waiting\nwhile :; do /bin/busybox sleep 1000; done"
    initrd = _initrd(pieces, folder / "initrd", script)
    done = phypan_command(
        "simulate", "-o", folder / "dump", *_options(pieces), "--initrd", initrd, "--patience", "20"
    )
    assert done.code == 1
    assert "the guest hangs: nothing on its console for 20 seconds" in done.err
    assert "\n    waiting\n" in done.err
    assert not (folder / "dump").exists()
    running = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, check=False)
    assert running.stdout == b"", "QEMU was left behind"


def test_somebody_elses_ram_disk_may_crash_the_machine(pieces, folder, phypan_command) -> None:
    script = """
        busybox mount -t proc proc /proc
        [ -e /proc/vmcore ] || echo c > /proc/sysrq-trigger
        while :; do busybox sleep 1000; done
    """
    initrd = _initrd(pieces, folder / "initrd", script)
    done = phypan_command("simulate", "-o", folder / "dump", *_options(pieces), "--initrd", initrd)
    assert (done.code, done.err) == (0, "")
    with phypan.open(folder / "dump") as dump:
        assert dump.problems == []
        assert dump.crashing_cpu is not None
    meta = json.loads((folder / "dump" / "meta.json").read_text())
    assert meta["crash"] == "the initial RAM disk's own"
    assert meta["no vmcore.kernel"] == "the initial RAM disk does not copy it"
    assert not (folder / "dump" / "vmcore.kernel").exists()
