"""What the system runs after a crash: a folder for each dump, with what belongs beside it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import phypan
from phypan.places.shelves import LocalShelf
from phypan.rescue import retention, saving
from phypan.rescue.capture import journal_of
from phypan.rescue.journal import Journal
from phypan.rescue.retention import remove_old
from tests.needs import missing
from tests.platform_model.test_simulation import assert_memory_is_what_it_was
from tests.rescue import rig as rescue_rig
from tests.rescue.conftest import simulated

HOST = socket.gethostname().split(".")[0]


@pytest.fixture
def settings(world, monkeypatch) -> phypan.Settings:
    monkeypatch.setenv("PHYPAN_RUN", str(world.folder / "run"))
    return phypan.Settings(path=world.folder / "disk" / "crash")


def folders(settings: phypan.Settings) -> list[Path]:
    return sorted(settings.path.iterdir())


def test_a_dump_gets_a_folder_with_its_log_and_what_happened(world, crashed, settings) -> None:
    saved = phypan.save(settings, root=world.root)
    (folder,) = folders(settings)
    assert re.fullmatch(re.escape(HOST) + r"-\d{8}-\d{6}", folder.name)
    assert folder.stat().st_mode & 0o777 == 0o700
    names = {path.name for path in folder.iterdir()}
    assert names >= {"vmcore", "vmcore-dmesg.txt"}
    with phypan.open(folder / "vmcore") as dump:
        assert assert_memory_is_what_it_was(dump, crashed.before)
    log = (folder / "vmcore-dmesg.txt").read_text()
    assert "Kernel panic - not syncing: sysrq triggered crash" in log
    if importlib.util.find_spec("drgn") is None:
        assert [p for p in saved.problems if "triage.json" in p.where]
    else:
        assert {"class", "message"} <= {
            row["item"] for row in json.loads((folder / "triage.json").read_text())
        }
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())


def test_without_drgn_there_is_no_triage_and_that_is_said(world, settings, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "drgn", None)
    saved = phypan.save(settings, root=world.root)
    (folder,) = folders(settings)
    assert {path.name for path in folder.iterdir()} == {"vmcore", "vmcore-dmesg.txt"}
    assert any("drgn" in problem.what for problem in saved.problems)


def test_one_that_was_stopped_is_gone_on_with_in_its_folder(
    world, crashed, settings, uninterrupted, monkeypatch
) -> None:
    folder = settings.path / f"{HOST}-20240101-000000"
    folder.mkdir(parents=True)
    world.capture(kill_at=uninterrupted[1] // 3, target=folder / "vmcore")
    assert (folder / "vmcore.journal").exists()
    phypan.save(settings, root=world.root)
    assert folders(settings) == [folder]
    with phypan.open(folder / "vmcore") as dump:
        assert assert_memory_is_what_it_was(dump, crashed.before)


def test_elsewhere_it_has_a_folder_too_and_is_found_again(
    world, settings, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("PHYPAN_STATE", str(tmp_path))
    away = replace(settings, sink="ssh://store/dumps/")
    target, _ = saving._target(away, world.root)
    boot = phypan.status(world.root).boot_id
    assert re.fullmatch(rf"ssh://store/dumps/{re.escape(HOST)}-\d{{8}}-\d{{6}}/vmcore", target)
    for begun in ("ssh://store/dumps2/x/vmcore", "ssh://store/dumps/host-20240101-000000/vmcore"):
        with Journal(journal_of(begun), new=True) as journal:
            journal.append({"target": begun, "boot": boot})
    Journal(journal_of("ssh://store/dumps/empty/vmcore"), new=True).close()
    assert saving._target(away, world.root) == (begun, [])
    assert not journal_of("ssh://store/dumps/empty/vmcore").exists(), "nothing was begun"


@pytest.mark.parametrize(
    ("name", "folder"),
    [("p1.example.com", "p1"), ("(none)", "localhost"), ("a b/c", "a_b_c"), ("", "localhost")],
)
def test_a_host_without_a_name_has_one(monkeypatch, name, folder) -> None:
    """A kernel that was told none says "(none)", as in a RAM disk."""
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert retention.host() == folder


@pytest.fixture(scope="module")
def crashed_again():
    """Another partition, or this one another time: other memory, other registers."""
    return simulated(seed=7)


@pytest.mark.parametrize("damaged", [False, True])
def test_the_dump_that_waits_comes_before_what_is_left_of_an_old_one(
    world, crashed_again, settings, uninterrupted, monkeypatch, damaged
) -> None:
    """The power went in the middle of a capture, and then the partition crashed again."""
    old = settings.path / f"{HOST}-20240101-000000"
    old.mkdir(parents=True)
    world.capture(kill_at=uninterrupted[1] // 3, target=old / "vmcore")
    journal = old / "vmcore.journal"
    if damaged:
        data = bytearray(journal.read_bytes())
        data[40] ^= 1
        journal.write_bytes(data)
    left = {path.name: rescue_rig.content(path) for path in old.iterdir()}
    with rescue_rig.world(crashed_again, name="-again") as again:
        boot = again.root / "proc/sys/kernel/random/boot_id"
        boot.write_text("another boot\n")
        saved = phypan.save(settings, root=again.root)
        assert saved.captured.whole
        (new,) = [folder for folder in folders(settings) if folder != old]
        assert saved.captured.target == str(new / "vmcore")
        with phypan.open(new / "vmcore") as dump:
            assert assert_memory_is_what_it_was(dump, crashed_again.before)
    assert str(journal) in {problem.where.partition(",")[0] for problem in saved.problems}
    assert {path.name: rescue_rig.content(path) for path in old.iterdir()} == left


def test_no_dump_leaves_nothing_behind(settings, tmp_path) -> None:
    with pytest.raises(phypan.NoDump):
        phypan.save(settings, root=tmp_path)
    assert not settings.path.exists() or not folders(settings)


def test_old_dumps_of_this_host_go_and_nothing_else(settings) -> None:
    def make(name: str, *files: str) -> Path:
        folder = settings.path / name
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).write_bytes(b"x")
        return folder

    dates = [f"{HOST}-2024010{day}-000000" for day in range(1, 7)]
    old = [make(name, "vmcore", "vmcore-dmesg.txt") for name in dates[:4]]
    others = [
        make(dates[4], "vmcore.incomplete", "vmcore.journal"),
        make("elsewhere-20240101-000000", "vmcore"),
        make(f"{HOST}-20240101-000001", "vmcore", "notes.txt"),
        make(f"{HOST}-2024", "vmcore"),
    ]
    (settings.path / f"{HOST}-20230101-000000").symlink_to(old[3])
    new = make(dates[5], "vmcore")
    shelf = LocalShelf(settings.path)
    assert remove_old(shelf, 3, new.name) == tuple(path.name for path in old[:2])
    assert all(folder.exists() for folder in [*old[2:], *others, new])
    assert remove_old(shelf, 0, new.name) == ()
    assert remove_old(shelf, 1, new.name) == tuple(path.name for path in old[2:])
    assert new.exists()


@pytest.mark.parametrize("sealed", [False, True])
def test_a_new_dump_makes_old_ones_go(world, settings, tmp_path, sealed) -> None:
    keys = (phypan.write_pair(tmp_path / "key"),) if sealed else ()
    for day in range(1, 4):
        old = settings.path / f"{HOST}-2024010{day}-000000"
        old.mkdir(parents=True)
        (old / "vmcore").write_bytes(b"x")
    saved = phypan.save(replace(settings, retention=2, seal_for=keys), root=world.root)
    assert [Path(path).name for path in saved.removed] == [
        f"{HOST}-20240101-000000", f"{HOST}-20240102-000000",
    ]  # fmt: skip
    assert len(folders(settings)) == 2


def test_at_the_prompt(world, settings, tmp_path, phypan_command) -> None:
    config = tmp_path / "phypan.toml"
    config.write_text(f'path = "{settings.path}"\n')
    words = ("save", "--config", config, "--root", world.root)
    planned = phypan_command(*words, "--dry-run")
    assert planned.code == 0, planned.err
    assert f"{settings.path}/{HOST}-" in planned.out
    assert not settings.path.exists()
    assert phypan_command("save", "--config", config, "--root", tmp_path).code == 4
    config.write_text("path = 3\n")
    refused = phypan_command(*words)
    assert refused.code == 1
    assert "path cannot be 3" in refused.err


def test_the_unit_is_one_that_systemd_takes(phypan_command, peer, tmp_path) -> None:
    done = phypan_command("save", "--print", "unit")
    assert done.code == 0, done.err
    assert "@" not in done.out
    assert "ExecStart=/" in done.out
    unit = tmp_path / "phypan-save.service"
    unit.write_text(done.out)
    checked = subprocess.run(
        [peer("systemd-analyze"), "verify", "--man=no", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in checked.stderr.splitlines() if "phypan-save" in line]
    assert not said, said
    assert checked.returncode == 0, checked.stderr


# Of Debian's kdump-tools 1.8: it comes before basic.target, which all usual units come after.
KDUMP_TOOLS = """[Unit]
DefaultDependencies=no
After=local-fs.target networking.service
Before=basic.target
[Service]
Type=oneshot
ExecStart=/bin/true
"""


def test_systemd_finds_an_order_for_it_and_for_kdump(phypan_command, peer, tmp_path) -> None:
    """If there is none systemd leaves one of the two out, and at every boot."""
    analyze = peer("systemd-analyze")
    system = Path("/lib/systemd/system")
    if not (system / "multi-user.target").exists():
        missing("systemd's units are not installed")
    (tmp_path / "phypan-save.service").write_text(phypan_command("save", "--print", "unit").out)
    (tmp_path / "kdump-tools.service").write_text(KDUMP_TOOLS)
    drop_in = phypan_command("save", "--print", "drop-in")
    assert drop_in.code == 0
    for folder, name in (
        ("multi-user.target.wants", "phypan-save.service"),
        ("basic.target.wants", "kdump-tools.service"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).symlink_to(f"../{name}")
    (tmp_path / "kdump-tools.service.d").mkdir()
    (tmp_path / "kdump-tools.service.d" / "phypan.conf").write_text(drop_in.out)
    checked = subprocess.run(
        [analyze, "verify", "--man=no", "multi-user.target"],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:{system}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = checked.stderr.splitlines()
    assert not [line for line in said if "cycle" in line or "phypan" in line], checked.stderr


@pytest.mark.parametrize(("code", "told"), [(0, 1), (3, 1), (1, 0), (2, 0), (4, 0), (137, 0)])
def test_the_hook_lets_kdump_save_what_phypan_could_not(
    phypan_command, tmp_path, code, told
) -> None:
    text = phypan_command("save", "--print", "hook").out
    line = next(line for line in text.splitlines() if line.endswith(" save"))
    hook = tmp_path / "hook"
    hook.write_text(text.replace(line, f"sh -c 'exit {code}'"))
    assert subprocess.run(["sh", hook], check=False).returncode == told
