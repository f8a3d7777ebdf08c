"""The guest's RAM disk: what is in it, and what is said when it cannot be made."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from phypan.errors import InputError, Unsupported
from phypan.platform.qemu import crashes, ram_disk, simulate


def elf(order: str, kind: int = 2, machine: int = 21) -> bytes:
    """The head of a 64-bit ELF file."""
    head = b"\x7fELF\x02" + (b"\1" if order == "little" else b"\2") + b"\1" + bytes(9)
    return head + kind.to_bytes(2, order) + machine.to_bytes(2, order) + bytes(44)  # type: ignore[arg-type]


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name, data in {
        "vmlinux": elf("little"),
        "vmlinux-be": elf("big"),
        "busybox": elf("little") + b"BUSYBOX",
        "phypan_crash.ko": elf("little", 1) + b"MODULE",
        "x86": elf("little", machine=62),
        "zImage": b"\x7fELF\x01" + bytes(60),
        "short": b"\x7fELF",
    }.items():
        (tmp_path / name).write_bytes(data)
        found[name] = tmp_path / name
    return found


def _built(parts: dict[str, Path], crash: str = "null") -> bytes:
    return ram_disk.build(
        kernel=parts["vmlinux"], busybox=parts["busybox"], modules=[parts["phypan_crash.ko"]],
        crash=crashes.named(crash),
    )  # fmt: skip


def test_it_holds_what_the_guest_runs(parts, peer, tmp_path) -> None:
    archive = gzip.decompress(_built(parts))
    (tmp_path / "root").mkdir()
    subprocess.run(
        [peer("cpio"), "-idm", "--quiet", "--no-preserve-owner", "--nonmatching", "dev/console"],
        input=archive, cwd=tmp_path / "root", check=True,
    )  # fmt: skip
    root = tmp_path / "root"
    assert (root / "bin/busybox").read_bytes() == parts["busybox"].read_bytes()
    assert (root / "modules/order").read_text() == "phypan_crash.ko\n"
    assert (root / "modules/phypan_crash.ko").read_bytes().endswith(b"MODULE")
    script = (root / "bin/phypan_crash").read_text()
    assert script.startswith("#!/bin/sh\n")
    assert "echo null > /sys/module/phypan_crash/parameters/crash" in script
    assert (root / "init").stat().st_mode & 0o111


def test_it_is_the_same_each_time(parts) -> None:
    assert _built(parts) == _built(parts)


def test_the_scripts_are_shell(peer) -> None:
    init = ram_disk.module_source().parent / "init"
    shell = peer("sh")
    subprocess.run([shell, "-n", init], check=True)
    for crash in crashes.CRASHES.values():
        subprocess.run([shell, "-n", "-c", crash.script], check=True)
    assert shutil.which("sh")


def test_every_crash_of_the_module_is_in_the_module() -> None:
    source = (ram_disk.module_source() / "phypan_crash.c").read_text()
    named = {crash.name for crash in crashes.CRASHES.values() if crash.module}
    assert named
    for name in named:
        assert f'{{ "{name}", phypan_' in source


def test_the_documents_name_every_crash_and_no_other() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "crash-a-real-kernel.md"
    rows = re.findall(r"^\| `([a-z-]+)` \| .* \| (yes)? ?\|$", page.read_text(), re.MULTILINE)
    assert dict(rows) == {
        name: "yes" if crash.module else "" for name, crash in crashes.CRASHES.items()
    }
    told = re.search(r"crash +how: (.*?)\n +mode", simulate.__doc__ or "", re.DOTALL)
    assert told
    assert re.findall(r"[a-z-]+", told[1]) == list(crashes.CRASHES)


def test_a_crash_that_nobody_knows_is_refused() -> None:
    with pytest.raises(Unsupported, match="no kind of crash 'boredom'") as caught:
        crashes.named("boredom")
    assert caught.value.hint is not None
    assert "sysrq" in caught.value.hint


def test_what_is_missing_is_said_with_a_hint(parts) -> None:
    with pytest.raises(Unsupported, match="needs a busybox") as caught:
        ram_disk.build(
            kernel=parts["vmlinux"], busybox=None, modules=(), crash=crashes.named("sysrq")
        )
    assert "busybox-static" in str(caught.value.hint)
    with pytest.raises(Unsupported, match="takes the module") as caught:
        ram_disk.build(
            kernel=parts["vmlinux"], busybox=parts["busybox"], modules=(),
            crash=crashes.named("bug"),
        )  # fmt: skip
    assert str(ram_disk.module_source()) in str(caught.value.hint)


def test_the_other_byte_order_is_refused(parts) -> None:
    with pytest.raises(Unsupported, match=r"little-endian, the kernel .* is big-endian"):
        ram_disk.build(
            kernel=parts["vmlinux-be"], busybox=parts["busybox"], modules=(),
            crash=crashes.named("sysrq"),
        )  # fmt: skip


@pytest.mark.parametrize("name", ["x86", "zImage", "short"])
def test_what_is_no_kernel_is_refused(parts, name: str) -> None:
    with pytest.raises(InputError, match="not a 64-bit ELF file for POWER"):
        ram_disk.byte_order(parts[name])
    with pytest.raises(InputError, match="No such file"):
        ram_disk.byte_order(parts[name].with_name("nothing"))
