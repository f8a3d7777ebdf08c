"""The whole of it as on the machine: the command line, the mounted model, and real servers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import phypan
from tests import mounting
from tests.places.servers import BUCKET, proxy, put_server, s3_server, ssh_server
from tests.platform_model.test_simulation import assert_memory_is_what_it_was

MODEL = {"kernel": "2.6.32", "memory": "640M", "boot_memory": "128M"}


@contextmanager
def to_ssh(folder):
    with ssh_server(folder) as server, proxy(server.port, [1 << 30, 900_000]) as between:
        server.trust(between.port)
        variables = {"HOME": str(server.home), "SSH_AUTH_SOCK": ""}
        yield server.address(folder / "copy", between.port), variables
        assert between.connections == 3, "cut, and made again"


@contextmanager
def to_s3(folder):
    with s3_server() as server:
        yield f"s3://{BUCKET}/dumps/vmcore", server.variables()
        (folder / "copy").write_bytes(server.get("dumps/vmcore"))


@contextmanager
def to_put(folder):
    with put_server() as server:
        yield server.address(), {}
        (folder / "copy").write_bytes(server.kept["/dumps/vmcore"])


@contextmanager
def to_pipe(folder):
    yield "-", {}


@contextmanager
def to_path(folder):
    yield str(folder / "copy"), {}


@pytest.mark.parametrize("place", [to_path, to_ssh, to_s3, to_put, to_pipe])
def test_the_dump_is_the_memory_before_the_crash_and_all_is_given_back(tmp_path, place) -> None:
    key = tmp_path / "key"
    sealed = ["--seal-for", phypan.write_pair(key)] if place in (to_s3, to_pipe) else []
    options = [word for name, value in MODEL.items()
               for word in (f"--{name.replace('_', '-')}", value)]  # fmt: skip
    with mounting.mounted(tmp_path / "m", *options) as root, place(tmp_path) as (target, variables):
        words = [sys.executable, "-m", "phypan", "capture", target, "--root", root, *sealed]
        words += ["--retry-wait", "0.1"]
        words += ["--release"] * (place is to_pipe)
        environment = {**os.environ, "PHYPAN_STATE": str(tmp_path / "state"), **variables}
        environment["PHYPAN_RUN"] = str(tmp_path / "run")
        with (tmp_path / "copy" if place is to_pipe else tmp_path / "said").open("wb") as out:
            done = subprocess.run(words, env=environment, stdout=out, stderr=-1, check=False)
        assert done.returncode == 0, done.stderr.decode()
        assert all(line.startswith(b"phypan: ") for line in done.stderr.splitlines()), done.stderr
        assert mounting.state(root)["registered_anew"] == 1
        assert not mounting.state(root)["dump_waiting"]
    state = tmp_path / "state"
    assert not state.exists() or not list(state.iterdir())
    before = phypan.simulate(**MODEL).before  # the same each time
    with phypan.open(tmp_path / "copy", keys=[key]) as dump:
        assert assert_memory_is_what_it_was(dump, before)
        assert not dump.incomplete


# -- save, as a system runs it ---------------------------------------------------------------------


@contextmanager
def slow_ssh(folder: Path):
    with ssh_server(folder) as server, proxy(server.port, [], delay=0.03) as between:
        server.trust(between.port)
        dumps = folder / "dumps"
        dumps.mkdir()
        variables = {"HOME": str(server.home), "SSH_AUTH_SOCK": ""}
        yield (
            server.address(dumps, between.port), variables,
            lambda: {str(path.relative_to(dumps)): path.read_bytes()
                     for path in dumps.rglob("*") if path.is_file()},
        )  # fmt: skip


@contextmanager
def slow_s3(folder: Path):
    with s3_server() as server, proxy(server.port, [], delay=0.03) as between:
        server.clear()
        keys = server._bucket.keys
        yield (
            f"s3://{BUCKET}/dumps", server.variables(between.port),
            lambda: {key.removeprefix("dumps/"): server.get(key) for key in keys},
        )  # fmt: skip


@contextmanager
def slow_put(folder: Path):
    with put_server() as server, proxy(server.port, [], delay=0.03) as between:
        yield (
            server.address("/dumps", between.port), {},
            lambda: {name.removeprefix("/dumps/"): data for name, data in server.kept.items()},
        )  # fmt: skip


@pytest.mark.parametrize("place", [slow_ssh, slow_s3, slow_put])
def test_save_is_killed_and_started_again_and_the_next_crash_is_dumped(tmp_path, place) -> None:
    """As the unit does on a system with fadump, which is told to give memory back."""
    options = ("--kernel", "5.10", "--memory", "640M", "--boot-memory", "128M")
    with (
        mounting.mounted(tmp_path / "m", *options) as root,
        place(tmp_path) as (sink, variables, content),
    ):
        (tmp_path / "phypan.toml").write_text(f'sink = "{sink}"\nrelease = true\n')
        words = [sys.executable, "-m", "phypan", "save", "--root", root]
        words += ["--config", tmp_path / "phypan.toml"]
        environment = {**os.environ, **variables, "PHYPAN_RUN": str(tmp_path / "run")}
        environment["PHYPAN_STATE"] = str(tmp_path / "state")
        without = tmp_path / "without"  # drgn, as on the machine itself: triage takes long
        without.mkdir()
        (without / "drgn.py").write_text("raise ImportError('drgn is not here')\n")
        environment["PYTHONPATH"] = f"{without}:{os.environ.get('PYTHONPATH', '')}"
        with subprocess.Popen(words, env=environment) as first:
            while not any(
                path.stat().st_size for path in (tmp_path / "state").glob("capture-*.journal")
            ):
                assert first.poll() is None
                time.sleep(0.01)
            first.kill()
        assert mounting.state(root)["released"] == []
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert mounting.state(root)["registered_anew"] == 1
        assert not mounting.state(root)["dump_waiting"]
        again = subprocess.run(words, env=environment, capture_output=True, check=False)
        assert again.returncode == 4, "no dump is waiting"
        found = content()
    assert not list((tmp_path / "state").iterdir())
    folders = {name.partition("/")[0] for name in found}
    assert len(folders) == 1
    assert re.fullmatch(r"\S+-\d{8}-\d{6}", *folders)
    files = {name.partition("/")[2]: data for name, data in found.items()}
    assert files.keys() == {"vmcore", "vmcore-dmesg.txt"}
    (tmp_path / "copy").write_bytes(files["vmcore"])
    before = phypan.simulate(kernel="5.10", memory="640M", boot_memory="128M").before
    with phypan.open(tmp_path / "copy") as dump:
        assert assert_memory_is_what_it_was(dump, before)
