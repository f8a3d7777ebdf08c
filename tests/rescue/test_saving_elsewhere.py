"""What the system runs after a crash, to other machines: real servers on loopback."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import phypan
from phypan import api
from phypan.live import system as live
from phypan.places import opening
from phypan.places.address import scheme_of
from phypan.rescue import saving
from tests.places.servers import BUCKET, put_server, s3_server, ssh_server
from tests.platform_model.test_simulation import assert_memory_is_what_it_was
from tests.rescue import rig as rescue_rig

HOST = socket.gethostname().split(".")[0]
FOLDER = re.escape(HOST) + r"-\d{8}-\d{6}"
LOG = "Kernel panic - not syncing: sysrq triggered crash"
OLD = [f"{HOST}-2024010{day}-000000" for day in range(1, 5)]


@pytest.fixture(autouse=True)
def without_drgn(request, monkeypatch) -> None:
    """Triage takes most of the time: one test has it."""
    if "to_triage" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "drgn", None)


@pytest.fixture
def to_triage() -> None:
    pytest.importorskip("drgn")


@dataclass
class Place:
    """A place on another machine, and what there is below it, by name."""

    sink: str
    content: Callable[[], dict[str, bytes]]
    add: Callable[[str, bytes], object]
    patch: Callable[[], None] = lambda: None

    def folders(self) -> set[str]:
        return {name.partition("/")[0] for name in self.content()}


@pytest.fixture
def to_ssh(tmp_path, monkeypatch):
    with ssh_server(tmp_path) as server:
        monkeypatch.setenv("HOME", str(server.home))
        monkeypatch.setenv("SSH_AUTH_SOCK", "")
        folder = tmp_path / "dumps"
        folder.mkdir()

        def content() -> dict[str, bytes]:
            files = (path for path in folder.rglob("*") if path.is_file())
            return {str(path.relative_to(folder)): path.read_bytes() for path in files}

        def add(name: str, data: bytes) -> None:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)

        yield Place(server.address(folder), content, add, server.patch)


@pytest.fixture
def to_s3(monkeypatch):
    with s3_server() as server:
        for name, value in server.variables().items():
            monkeypatch.setenv(name, value)

        def content() -> dict[str, bytes]:
            keys = [key for key in server._bucket.keys if key.startswith("dumps/")]
            return {key.removeprefix("dumps/"): server.get(key) for key in keys}

        def add(name: str, data: bytes) -> None:
            opening.put_whole(f"s3://{BUCKET}/dumps/{name}", data)

        server.clear()
        yield Place(f"s3://{BUCKET}/dumps", content, add, server.patch())
        server.clear()


@pytest.fixture
def to_put():
    with put_server() as server:

        def content() -> dict[str, bytes]:
            return {name.removeprefix("/dumps/"): data for name, data in server.kept.items()}

        place = Place(server.address("/dumps"), content, lambda name, data: None)
        place.server = server
        yield place


@pytest.fixture
def to_fsspec():
    """What fsspec knows, and phypan does not: here its own file system in memory."""
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem.store.clear()

    def content() -> dict[str, bytes]:
        files = MemoryFileSystem.store.items()
        return {name.removeprefix("/dumps/"): file.getvalue() for name, file in files}

    def add(name: str, data: bytes) -> None:
        MemoryFileSystem().pipe(f"/dumps/{name}", data)

    yield Place("memory://dumps", content, add)
    MemoryFileSystem.store.clear()


@pytest.fixture(params=["to_ssh", "to_s3", "to_put", "to_fsspec"])
def place(request) -> Place:
    return request.getfixturevalue(request.param)


@pytest.fixture
def kernel(world, monkeypatch):
    """What the system writes to its kernel's files reaches the model, in this process."""
    monkeypatch.setenv("PHYPAN_RUN", str(world.folder / "run"))
    monkeypatch.setenv("PHYPAN_STATE", str(world.folder / "state"))

    def write(path: Path, data: bytes) -> None:
        if code := world.asked(str(path.relative_to(world.root)), data):
            raise phypan.OutputError(f"errno {code}", where=str(path))

    monkeypatch.setattr(live, "_write", write)
    return world


def saved_dump(place: Place, folder: Path) -> Path:
    (name,) = [name for name in place.content() if name.endswith("/vmcore")]
    assert re.fullmatch(FOLDER + "/vmcore", name)
    (folder / "copy").write_bytes(place.content()[name])
    return folder / "copy"


def test_the_dump_arrives_with_its_log_and_only_then_memory_is_given_back(
    kernel, crashed, place, tmp_path
) -> None:
    there: list[set[str]] = []
    kernel.boot.on_free = lambda start, end: there or there.append(set(place.content()))
    saved = phypan.save(phypan.Settings(sink=place.sink), root=kernel.root)
    with phypan.open(saved_dump(place, tmp_path)) as dump:
        assert assert_memory_is_what_it_was(dump, crashed.before)
    (folder,) = place.folders()
    content = place.content()
    assert LOG in content[f"{folder}/vmcore-dmesg.txt"].decode()
    assert set(content) == {f"{folder}/vmcore", f"{folder}/vmcore-dmesg.txt"}
    assert saved.beside == (f"{place.sink}/{folder}/vmcore-dmesg.txt",)
    assert [problem.where for problem in saved.problems] == ["triage.json"]
    assert there == [set(content)], "nothing was given back before all of it was there"
    assert kernel.boot.rounds == 1
    assert not list((kernel.folder / "state").iterdir())


def test_with_drgn_there_is_what_happened_too(kernel, to_put, to_triage) -> None:
    saved = phypan.save(phypan.Settings(sink=to_put.sink), root=kernel.root)
    assert saved.problems == ()
    (name,) = [name for name in to_put.content() if name.endswith("/triage.json")]
    items = {row["item"] for row in json.loads(to_put.content()[name])}
    assert {"class", "message"} <= items


def test_on_an_ssh_server_it_is_for_its_owners_eyes_only(kernel, to_ssh, tmp_path) -> None:
    phypan.save(phypan.Settings(sink=to_ssh.sink), root=kernel.root)
    (folder,) = (tmp_path / "dumps").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_sealed_there_is_nothing_beside_it_that_is_not(kernel, place, tmp_path) -> None:
    key = phypan.write_pair(tmp_path / "key")
    saved = phypan.save(phypan.Settings(sink=place.sink, seal_for=(key,)), root=kernel.root)
    assert [name.rpartition("/")[2] for name in place.content()] == ["vmcore"]
    assert [problem.what for problem in saved.problems] == ["no log or triage is written"]
    assert kernel.boot.rounds == 1


def test_what_goes_wrong_beside_the_dump_is_told_and_memory_is_given_back(
    kernel, crashed, to_put, tmp_path, monkeypatch
) -> None:
    def run(dump, name: str, **options):
        raise ValueError(f"{name} is broken")

    monkeypatch.setattr(api, "run", run)
    saved = phypan.save(phypan.Settings(sink=to_put.sink), root=kernel.root)
    assert "ValueError: dmesg is broken" in {problem.what for problem in saved.problems}
    with phypan.open(saved_dump(to_put, tmp_path)) as dump:
        assert assert_memory_is_what_it_was(dump, crashed.before)
    assert kernel.boot.rounds == 1


def test_a_server_that_is_full_by_then_does_not_hold_memory_back(
    kernel, to_put, monkeypatch
) -> None:
    monkeypatch.setattr(saving, "_SHORT", 0)
    to_put.server.answers = [201, 507, 413]
    saved = phypan.save(phypan.Settings(sink=to_put.sink), root=kernel.root)
    assert [name.rpartition("/")[2] for name in to_put.content()] == ["vmcore"]
    assert any("507" in problem.what for problem in saved.problems)
    assert saved.beside == ()
    assert kernel.boot.rounds == 1


def test_killed_anywhere_and_started_again_it_is_one_dump_with_its_log(
    crashed, to_ssh, tmp_path, monkeypatch
) -> None:
    dumps, real = tmp_path / "dumps", rescue_rig._Saved.open

    def opened(cls, target):
        there = [path for path in dumps.glob("*/vmcore*") if path.name != "vmcore-dmesg.txt"]
        return real(there[0].with_name("vmcore")) if there else None

    monkeypatch.setattr(rescue_rig._Saved, "open", classmethod(opened))

    def saves() -> None:
        to_ssh.patch()

        def capture(target, *, root, **options):
            return phypan.save(phypan.Settings(sink=to_ssh.sink), root=root).captured

        phypan.capture = capture

    with rescue_rig.world(crashed) as world:
        calls = world.capture(patch=saves).calls
    assert calls > 15
    for number in range(1, calls, 5):
        for path in sorted(dumps.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        with rescue_rig.world(crashed) as world:
            first = world.capture(patch=saves, kill_at=number)
            assert first.code == 9, number
            last = world.capture(patch=saves)
            assert last.error is None or "no dump is waiting" in last.error, last.error
            full = [path.parent for path in dumps.glob("*/vmcore")]
            assert len(full) == 1, number
            names = {path.name for path in full[0].iterdir()}
            assert {"vmcore", "vmcore-dmesg.txt"} <= names, number
            assert not [name for name in names if "incomplete" in name], number
            assert world.unsaved == 0
            assert world.boot.rounds == 1
            assert not list((world.folder / "state").iterdir()), number


# -- retention -------------------------------------------------------------------------------------


def test_old_dumps_of_this_host_go_there_too(kernel, place) -> None:
    for name in OLD[:3]:
        place.add(f"{name}/vmcore", b"old")
        place.add(f"{name}/vmcore-dmesg.txt", b"old")
    others = (f"{OLD[3]}/vmcore.incomplete", f"{HOST}-20240101-000009/notes.txt", "p2/vmcore")
    for name in others:
        place.add(name, b"x")
    saved = phypan.save(phypan.Settings(sink=place.sink, retention=2), root=kernel.root)
    if scheme_of(place.sink) == "http":
        (problem,) = [problem for problem in saved.problems if "cannot be asked" in problem.what]
        assert problem.where == place.sink
        assert saved.removed == ()
        return
    assert saved.removed == tuple(f"{place.sink}/{name}" for name in OLD[:2])
    kept = place.folders()
    assert not kept & set(OLD[:2])
    assert kept >= {OLD[2], *(name.partition("/")[0] for name in others)}
    assert len(kept) == 5


def test_a_shelf_that_is_not_there_is_a_problem_and_the_dump_is_safe(
    kernel, to_ssh, monkeypatch
) -> None:
    def gone(target: str):
        raise phypan.OutputError("Connection refused", where=target)

    monkeypatch.setattr(opening, "open_shelf", gone)
    saved = phypan.save(phypan.Settings(sink=to_ssh.sink, retention=2), root=kernel.root)
    assert saved.captured.whole
    assert any("Connection refused" in problem.what for problem in saved.problems)


# -- at the prompt ---------------------------------------------------------------------------------


def test_exit_codes_and_what_is_said(kernel, to_ssh, tmp_path, phypan_command) -> None:
    config = tmp_path / "phypan.toml"
    config.write_text(f'sink = "{to_ssh.sink}"\n')
    words = ("save", "--config", config, "--root", kernel.root)
    planned = phypan_command(*words, "--dry-run")
    assert planned.code == 0, planned.err
    assert re.search(rf"^{re.escape(to_ssh.sink)}/{FOLDER}/vmcore: \d+ bytes", planned.out, re.M)
    assert to_ssh.content() == {}
    assert phypan_command("save", "--config", config, "--root", tmp_path).code == 4
    config.write_text(f'sink = "{to_ssh.sink}/no/such"\n')
    refused = phypan_command(*words)
    assert refused.code == 1
    assert "No such file" in refused.err
    config.write_text(f'sink = "{to_ssh.sink}"\nrelease = false\n')
    done = phypan_command(*words)
    assert done.code == 0, done.err
    assert re.search(rf"^{re.escape(to_ssh.sink)}/{FOLDER}/vmcore: \d+ bytes$", done.out, re.M)
    assert re.search(rf"^{re.escape(to_ssh.sink)}/{FOLDER}/vmcore-dmesg.txt$", done.out, re.M)
