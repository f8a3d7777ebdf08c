"""simulate() with a QEMU that plays parts: what is kept, what is said when a guest fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import phypan
from phypan.errors import GuestError, OutputError, PhypanError, Unsupported
from phypan.platform.qemu import cpus, simulate, stream
from tests.platform_model.qemu import fake_qemu, streams
from tests.platform_model.qemu.test_ram_disk import elf

MEMORY = 256 << 20


@pytest.fixture
def started(tmp_path: Path):
    """simulate() with a part for QEMU to play; small and impatient."""
    (tmp_path / "vmlinux").write_bytes(elf("little"))
    (tmp_path / "busybox").write_bytes(elf("little"))

    def start(part: str, **options: object) -> Path:
        given: dict[str, object] = {
            "kernel": tmp_path / "vmlinux",
            "busybox": tmp_path / "busybox",
            "qemu": f"{sys.executable} {fake_qemu.__file__} {part}",
            "memory": "256M",
            "patience": 2 if part == "hang" else 60,
        }
        return simulate(tmp_path / "dump", **(given | options))  # type: ignore[arg-type]

    return start


def _names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_what_qemu_preserved_is_kept(started) -> None:
    lines: list[str] = []
    folder = started("good", report=lines.append)
    assert _names(folder) == {
        "ram", "boot2.dtb", "hpt", "registers.json", "vmcore.kernel", "console.log", "meta.json",
    }  # fmt: skip
    ram = folder / "ram"
    assert ram.stat().st_size == MEMORY
    assert ram.stat().st_blocks * 512 < 1 << 20, "sparse"
    with ram.open("rb") as file:
        assert file.read(18) == fake_qemu.FIRST_PAGE
        file.seek(MEMORY - 65536)
        assert file.read(18) == fake_qemu.FIRST_PAGE
    assert (folder / "vmcore.kernel").read_bytes() == fake_qemu.VMCORE.ljust(4096, b"\0")
    found = stream.read(streams.data("hash"))
    assert json.loads((folder / "registers.json").read_text()) == cpus.described(found)
    hpt = (folder / "hpt").read_bytes()
    assert len(hpt) == 1 << 21
    assert {i: hpt[16 * i : 16 * i + 16] for i in found.hpt} == found.hpt
    assert sum(1 for i in range(0, len(hpt), 16) if any(hpt[i : i + 16])) == len(found.hpt)
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["preserved by"] == "QEMU"
    assert (meta["release"], meta["crash"], meta["mmu"]) == ("6.12.0-fake", "sysrq", "hash")
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())
    assert "the second boot: PHYPAN: second boot, /proc/vmcore has 4096 bytes" in lines
    assert not any("\033" in line for line in lines)


def test_a_guest_that_nobody_preserved_is_preserved_by_the_model(started) -> None:
    folder = started("panic")
    assert _names(folder) == {
        "ram", "boot2.dtb", "hpt", "registers.json", "console.log", "meta.json",
    }  # fmt: skip
    truth = cpus.registers(stream.read(streams.data("hash")))
    with phypan.open(folder) as dump:
        assert dump.memory.read(0, 18) == fake_qemu.FIRST_PAGE
        assert dump.memory.read(MEMORY - 65536, 18) == fake_qemu.FIRST_PAGE
        assert dump.memory.size == MEMORY, "all of the guest's, and nothing beyond it"
        assert not dump.incomplete
        assert [cpu.number for cpu in dump.cpus] == [0, 1]
        for cpu, expected in zip(dump.cpus, truth, strict=True):
            assert cpu.firmware == dict(expected.registers)


def test_a_copy_that_failed_is_told_and_the_rest_is_kept(started) -> None:
    folder = started("no-copy")
    assert "vmcore.kernel" not in _names(folder)
    assert {"ram", "boot2.dtb"} < _names(folder)
    meta = json.loads((folder / "meta.json").read_text())
    assert "was not copied: no disk" in meta["no vmcore.kernel"]


def test_with_an_initial_ram_disk_of_ones_own_memory_is_taken_when_all_is_quiet(
    started, tmp_path
) -> None:
    (tmp_path / "initrd").write_bytes(b"my own")
    folder = started("own-init", initrd=tmp_path / "initrd", busybox=None)
    assert "vmcore.kernel" not in _names(folder)
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["crash"] == "the initial RAM disk's own"
    assert "does not copy it" in meta["no vmcore.kernel"]
    with phypan.open(folder):
        pass


def test_plain_leaves_qemus_own_dumps(started) -> None:
    folder = started("panic", mode="plain")
    assert _names(folder) == {
        "vmcore", "vmcore.zlib", "hpt", "registers.json", "console.log", "meta.json",
    }  # fmt: skip
    vmcore = folder / "vmcore"
    assert vmcore.read_bytes() == b"as elf" + bytes(200000)
    assert vmcore.stat().st_blocks * 512 < 100000, "sparse"
    meta = json.loads((folder / "meta.json").read_text())
    assert "not built in" in meta["formats that failed"]["kdump-lzo"]


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("hang", "the guest hangs: nothing on its console for 2 seconds"),
        ("die", "QEMU did not start"),
        ("forget", "nothing had been preserved"),
        ("refuse", "a device cannot be migrated"),
        ("stranger", "does not say QEMU's version: a stranger"),
    ],
)
def test_a_failure_says_why(started, tmp_path, part: str, why: str) -> None:
    with pytest.raises(PhypanError, match=why) as caught:
        started(part)
    assert not (tmp_path / "dump").exists()
    left = tmp_path / "dump.incomplete"
    assert not left.exists() or _names(left) <= {"console.log", "qemu.log"}
    if part == "hang":
        assert isinstance(caught.value, GuestError)
        assert "PHYPAN: about to crash" in str(caught.value)
        assert "\033" not in str(caught.value), "what a guest prints is no command for a terminal"
        assert str(left / "console.log") in str(caught.value.hint)
    if part == "die":
        assert "the fake cannot start" in str(caught.value)


def test_a_guest_that_chatters_for_ever_is_given_up(started) -> None:
    with pytest.raises(GuestError, match="came to no end") as caught:
        started("chatter", patience=0.7)
    assert "again and again" in str(caught.value)


def test_a_monitor_that_does_not_answer_is_given_up(started, monkeypatch) -> None:
    monkeypatch.setattr("phypan.platform.qemu.session._START", 1)
    with pytest.raises(GuestError, match="QEMU did not start"):
        started("mute")


def test_what_is_there_is_not_overwritten(started, tmp_path) -> None:
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "precious").write_text("x")
    with pytest.raises(OutputError, match="exists already"):
        started("good")
    assert _names(tmp_path / "dump") == {"precious"}
    (tmp_path / "dump" / "precious").unlink()
    assert "ram" in _names(started("good")), "an empty directory may be there"


def test_a_folder_left_by_a_failure_is_taken_over(started, tmp_path) -> None:
    (tmp_path / "dump.incomplete").mkdir()
    (tmp_path / "dump.incomplete" / "stream").write_text("left over")
    assert "stream" not in _names(started("good"))
    assert not (tmp_path / "dump.incomplete").exists()


@pytest.mark.parametrize(
    "options",
    [{"mode": "fast"}, {"crash": "boredom"}, {"cpu": "Z80"}, {"mmu": "radix", "cpu": "POWER8"}],
)
def test_options_that_cannot_be_leave_nothing(started, tmp_path, options) -> None:
    with pytest.raises(Unsupported):
        started("good", **options)
    assert not list(tmp_path.glob("dump*"))


def test_without_the_library_there_is_a_hint(started, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "qemu.qmp", None)
    with pytest.raises(Unsupported, match=r"qemu\.qmp is not installed") as caught:
        started("good")
    assert "phypan[qemu]" in str(caught.value.hint)


def test_it_works_where_an_event_loop_runs(started) -> None:
    async def cell() -> Path:
        return Path(started("good"))

    assert "ram" in _names(asyncio.run(cell()))


def _gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with contextlib.suppress(OSError):  # a zombie is gone too
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(tmp_path, how: signal.Signals) -> None:
    """On Ctrl-C, and on the end of phypan itself."""
    (tmp_path / "vmlinux").write_bytes(elf("little"))
    (tmp_path / "busybox").write_bytes(elf("little"))
    pid_file = tmp_path / "pid"
    code = (
        "import signal; from phypan.platform.qemu import simulate\n"
        # ignored by what a shell has started in the background, and by its children
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"simulate({str(tmp_path / 'dump')!r}, kernel={str(tmp_path / 'vmlinux')!r}, "
        f"busybox={str(tmp_path / 'busybox')!r}, memory='256M', "
        f"qemu={f'{sys.executable} {fake_qemu.__file__} hang'!r})"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PHYPAN_FAKE_PID": str(pid_file)},
        stderr=subprocess.DEVNULL,
    )
    console = tmp_path / "dump.incomplete" / "console.log"
    deadline = time.monotonic() + 30
    while not (console.exists() and "about to crash" in console.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int(pid_file.read_text())
    assert not _gone_now(pid)
    child.send_signal(how)
    assert child.wait(30) != 0
    assert _gone(pid)
    if how is signal.SIGINT:
        assert _names(tmp_path / "dump.incomplete") == {"console.log", "qemu.log"}


def _gone_now(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
