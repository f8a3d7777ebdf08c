"""The second boot as a file system, used as on the machine: by cat, dd and echo."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from phypan.formats import kernel_dump

BANNER = 0x700000  # the physical address of the synthetic kernel's
OPTIONS = ("--kernel", "2.6.32", "--memory", "1G", "--boot-memory", "128M")


def unusable() -> str | None:
    """Why nothing can be mounted here."""
    if importlib.util.find_spec("mfusepy") is None:
        return "mfusepy is not installed"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or shutil.which("fusermount3") is None:
        return "FUSE is not there, or not allowed"
    return None


@pytest.fixture
def second_boot(tmp_path: Path) -> Iterator[Path]:
    """The files of the second boot, mounted."""
    why = unusable()
    if why is not None:
        pytest.skip(why)
    place = tmp_path / "mounted"
    place.mkdir()
    words = [sys.executable, "-m", "phypan", "simulate", *OPTIONS, "--mount", str(place)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            deadline = time.monotonic() + 60
            while not (place / "proc").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"nothing was mounted: {process.stdout.read().decode()}")
                time.sleep(0.05)
            yield place
        finally:
            subprocess.run(["fusermount3", "-u", place], check=False, capture_output=True)
            process.wait(timeout=60)


def shell(command: str, folder: Path) -> str:
    done = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_memory_changes_once_it_is_given_back_by_echo(second_boot, tmp_path) -> None:
    """Offsets are physical addresses in that kernel's /proc/vmcore: 512 blocks of 1 MiB."""
    region = "sys/kernel/release_region"
    assert shell(f"cat {region}", second_boot).startswith("CPU:")
    take = "dd if=proc/vmcore bs=1M skip=512 count=1 | sha256sum"
    before = shell(take, second_boot)
    assert shell(take, second_boot) == before
    shell(f"echo 0x20000000 0x10000000 > {region}", second_boot)
    assert shell(take, second_boot) != before


def test_low_memory_is_where_the_property_says(second_boot, tmp_path) -> None:
    found = (second_boot / "proc/device-tree/rtas/ibm,kernel-dump").read_bytes()
    (low,) = kernel_dump.read(found).of_type(kernel_dump.SectionType.REAL_MODE_REGION)
    assert low.source == 0
    place = low.destination + BANNER
    words = f"dd if=proc/vmcore of={tmp_path}/banner bs=1 skip={place} count=20"
    shell(words, second_boot)
    assert (tmp_path / "banner").read_bytes() == b"Linux version 2.6.32"
