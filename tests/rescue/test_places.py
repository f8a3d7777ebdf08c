"""Captures to other places: real servers on loopback, cut connections, kills, sealing.

The model counts what was given back and was not at the place: always nothing. Of a stream it looks
at what the server has by then; of a file behind sshd, at the file.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import asyncssh
import pytest
import s3fs  # noqa: F401

import phypan
from phypan import BytesStore, SealedStore
from phypan.formats import elfcore
from phypan.plugins.sources.flattened import FlattenedStore
from tests.places.servers import BUCKET, proxy, put_server, s3_server, ssh_server
from tests.platform_model.test_simulation import assert_memory_is_what_it_was
from tests.rescue import rig as rescue_rig
from tests.rescue.rig import World

PART = 300_000  # bytes of a part of an upload, here


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    with ssh_server(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture(scope="module")
def s3_of_module():
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_of_module):
    s3_of_module.clear()
    yield s3_of_module
    s3_of_module.clear()


@pytest.fixture
def put():
    with put_server() as server:
        yield server


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("key") / "key"
    return path, phypan.write_pair(path)


def each(*patches: Callable[[], None]) -> Callable[[], None]:
    def install() -> None:
        for patch in patches:
            patch()

    return install


def small_parts() -> None:
    from phypan.places import s3

    s3._LEAST, s3._MIB = PART, 1


class Streamed:
    """What of the crashed partition's memory a stream holds, complete or not."""

    def __init__(self, data: bytes) -> None:
        self._store = FlattenedStore(BytesStore(data))
        self._loads = elfcore.read(
            lambda at, size: bytes(self._store.view(at, min(size, self._store.size - at))),
            1 << 40,
        ).loads

    def close(self) -> None:
        self._store.close()

    def used(self, start: int, end: int) -> set[int]:
        found = set()
        for load in self._loads:
            first, last = max(start, load.paddr), min(end, load.paddr + load.filesz)
            if first < last:
                shift = load.paddr - load.offset
                for at, size in self._store.data(first - shift, last - first):
                    block = rescue_rig.BLOCK
                    found |= set(range((at + shift) // block * block, at + shift + size, block))
        return found

    def read(self, paddr: int, size: int) -> bytes:
        for load in self._loads:
            if load.paddr <= paddr and paddr + size <= load.paddr + load.filesz:
                at = load.offset + paddr - load.paddr
                there = max(0, min(size, self._store.size - at))
                return (
                    bytes(self._store.view(at, there)).ljust(size, b"\0") if there else bytes(size)
                )
        return b""


def watch(monkeypatch, stream: Callable[[], bytes | None]) -> None:
    """Have the model look for what it frees in this stream."""

    def opened(cls, target):
        data = stream()
        if not data:
            return None
        inside = FlattenedStore(BytesStore(data))
        if bytes(inside.view(0, 4)) == elfcore.MAGIC:
            return Streamed(data)
        path = target.with_name("inside")
        path.write_bytes(inside.view(0, inside.size))
        held = rescue_rig.Compressed(path)
        path.unlink()
        return held

    monkeypatch.setattr(rescue_rig._Saved, "open", classmethod(opened))


def whole(crashed, path: Path, **more) -> None:
    with phypan.open(path, **more) as dump:
        assert assert_memory_is_what_it_was(dump, crashed.before)
        assert not dump.incomplete
        for cpu in dump.cpus:
            assert cpu.firmware == crashed.cpus[cpu.number]


def assert_released(world: World) -> None:
    assert world.unsaved == 0
    assert world.boot.rounds == 1, "another dump was registered"
    assert sum(end - start for start, end in world.boot._given) == world.boot.reserve_size
    left = [path.name for path in (world.folder / "state").glob("*")]
    assert not left, "the journal is gone, and what is secret with it"


# -- SSH -------------------------------------------------------------------------------------------


@pytest.fixture
def to_ssh(world, ssh):
    def capture(*, port: int | None = None, patch: Callable[[], None] = lambda: None, **more):
        target = ssh.address(world.target, port)
        return world.capture(target=target, patch=each(ssh.patch, patch), **more)

    return capture


@pytest.fixture
def local(uninterrupted):
    """What a capture to a path makes of it."""
    return uninterrupted[0]


def test_to_an_ssh_server(world, to_ssh, local) -> None:
    outcome = to_ssh()
    assert outcome.error is None, outcome.error
    assert rescue_rig.content(world.target) == local
    assert world.target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in world.target.parent.iterdir()] == ["vmcore"]
    assert_released(world)


def test_to_an_ssh_server_that_knows_no_fsync(world, to_ssh, ssh, local) -> None:
    """Then what was written is read back before it counts."""

    def old_server() -> None:

        async def fsync(self) -> None:
            raise asyncssh.SFTPOpUnsupported("fsync not supported by server")

        asyncssh.SFTPClientFile.fsync = fsync

    assert to_ssh(patch=old_server).error is None
    assert rescue_rig.content(world.target) == local
    assert_released(world)


def test_a_server_whose_disk_gives_back_other_bytes_frees_nothing(world, to_ssh) -> None:
    def install() -> None:

        async def fsync(self) -> None:
            raise asyncssh.SFTPOpUnsupported("fsync not supported by server")

        real = asyncssh.SFTPClientFile.read

        async def read(self, size, offset):
            return bytes(len(await real(self, size, offset)))

        asyncssh.SFTPClientFile.fsync, asyncssh.SFTPClientFile.read = fsync, read

    assert "read back are not what was written" in to_ssh(patch=install).error
    assert world.freed == 0


@pytest.mark.parametrize("cut", [0, 3000, 400_000, 1_500_000])
def test_an_ssh_connection_that_is_cut_is_made_again(world, to_ssh, ssh, local, cut) -> None:
    with proxy(ssh.port, [1 << 30, cut, cut, cut // 2]) as between:
        ssh.trust(between.port)
        outcome = to_ssh(port=between.port, retry_wait=0.01, window=1 << 20)
        assert outcome.error is None, outcome.error
        assert between.connections >= 3
    assert rescue_rig.content(world.target) == local
    assert_released(world)


def test_a_place_that_stays_away_is_not_waited_for_for_ever(world, to_ssh, ssh, local) -> None:
    told = world.folder / "told"

    def install() -> None:
        real = phypan.capture

        def capture(*args, **more):
            return real(*args, **more, report=lambda line: told.open("a").write(line + "\n"))

        phypan.capture = capture

    begin = time.monotonic()
    with proxy(ssh.port, [1 << 30, *([1_000_000] * 40)]) as between:
        ssh.trust(between.port)
        more = {"port": between.port, "retries": 3, "retry_wait": 0.01}
        outcome = to_ssh(patch=install, window=1 << 30, **more)
        assert outcome.code == 1
        assert between.connections == 1 + 1 + 3
    assert time.monotonic() - begin < 20
    lines = told.read_text().splitlines()
    assert [line.rpartition("; ")[2] for line in lines] == [
        f"trying again in {wait} s ({n} of 3)" for n, wait in ((1, 0.01), (2, 0.02), (3, 0.04))
    ]
    assert world.unsaved == 0
    # Its journal is there, and a capture to the same address goes on with it.
    with proxy(ssh.port, []) as other:
        assert other.port != between.port
    assert list((world.folder / "state").glob("*.journal"))


def test_a_server_that_refuses_is_told_at_once(world, to_ssh, ssh) -> None:
    outcome = world.capture(target=ssh.address(Path("/no/such/folder/vmcore")), patch=ssh.patch)
    assert "No such file" in outcome.error
    nobody = each(ssh.patch, lambda: os.environ.update(HOME="/no/such/folder"))
    outcome = world.capture(target=ssh.address(world.target), patch=nobody)
    assert "not trusted" in outcome.error or "Host key" in outcome.error
    assert world.freed == 0
    assert not list((world.folder / "state").iterdir())


def test_what_is_there_already_is_not_overwritten(world, to_ssh, local) -> None:
    world.target.write_bytes(b"precious")
    outcome = to_ssh()
    assert "exists already" in outcome.error
    assert world.target.read_bytes() == b"precious"
    world.target.rename(world.target.with_name("vmcore.incomplete"))
    assert "vmcore.incomplete: exists already" in to_ssh().error
    assert to_ssh(force=True).error is None
    assert rescue_rig.content(world.target) == local


def test_killed_and_gone_on_with_over_ssh(crashed, ssh, local) -> None:
    with rescue_rig.world(crashed) as world:
        target = ssh.address(world.target)
        calls = world.capture(target=target, patch=ssh.patch).calls
    assert calls > 15
    for number in range(0, calls, 4):
        with rescue_rig.world(crashed) as world:
            capture = partial(world.capture, target=ssh.address(world.target), patch=ssh.patch)
            first = capture(kill_at=number)
            last = capture(resume=True)
            if first.code == 9 and last.error is not None:
                # before anything was noted, what was begun there is not known to be ours
                assert "exists already" in last.error or "no dump is waiting" in last.error
                if "exists already" in last.error:
                    assert capture(force=True).error is None
            assert world.unsaved == 0
            assert rescue_rig.content(world.target) == local
            assert world.boot.rounds == 1


# -- S3 --------------------------------------------------------------------------------------------

KEY = f"s3://{BUCKET}/dumps/vmcore"


def so_far(server) -> bytes | None:
    done = server.get("dumps/vmcore")
    return done if done is not None else b"".join(map(server.parts, server.uploads()[-1:])) or None


@pytest.fixture
def to_s3(world, s3, monkeypatch):
    watch(monkeypatch, lambda: so_far(s3))
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1000)

    def capture(port: int | None = None, patch: Callable[[], None] = lambda: None, **more):
        install = each(s3.patch(port), small_parts, patch)
        return world.capture(target=KEY, patch=install, **{"window": 1 << 20, **more})

    return capture


@pytest.fixture(scope="module")
def stream(crashed, tmp_path_factory):
    """The flattened dump that a capture without any disturbance makes."""
    path = tmp_path_factory.mktemp("stream") / "flat"
    with rescue_rig.world(crashed) as world:
        assert to_pipe(world, path, release=False).error is None
    return path.read_bytes()


def to_pipe(world, path: Path, **more):
    def install() -> None:
        sys.stdout = path.open("w")

    return world.capture(target="-", patch=install, **more)


def test_to_an_s3_server(world, to_s3, s3, crashed, stream, tmp_path) -> None:
    outcome = to_s3()
    assert outcome.error is None, outcome.error
    assert outcome.result.first is not None, "memory was given back on the way"
    assert s3.get("dumps/vmcore") == stream
    assert len(stream) // PART > 4, "in several parts"
    (tmp_path / "vmcore").write_bytes(s3.get("dumps/vmcore"))
    whole(crashed, tmp_path / "vmcore")
    assert_released(world)


@pytest.mark.parametrize("cut", [0, 100_000, 500_000])
def test_an_upload_that_is_cut_goes_on(world, to_s3, s3, stream, cut) -> None:
    with proxy(s3.port, [1 << 30, 1 << 30, cut, cut, 0]) as between:
        outcome = to_s3(between.port, retry_wait=0.01)
        assert outcome.error is None, outcome.error
        assert between.connections > 2
    assert s3.get("dumps/vmcore") == stream
    assert len(s3.uploads()) == 0, "it was one upload"
    assert_released(world)


def test_killed_and_gone_on_with_over_s3(crashed, s3, stream, monkeypatch) -> None:
    watch(monkeypatch, lambda: so_far(s3))
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1000)
    install = each(s3.patch(), small_parts)
    with rescue_rig.world(crashed) as world:
        calls = world.capture(target=KEY, patch=install, window=1 << 20).calls
    assert calls > 20
    for number in range(1, calls, 9):
        s3.clear()
        with rescue_rig.world(crashed) as world:
            capture = partial(world.capture, target=KEY, patch=install, window=1 << 20)
            first = capture(kill_at=number)
            last = capture(resume=True)
            if first.code == 9 and last.error is not None:
                assert "no dump is waiting" in last.error, last.error
            assert world.unsaved == 0
            assert s3.get("dumps/vmcore") == stream, number
            assert world.boot.rounds == 1


def test_an_object_is_not_overwritten_and_wrong_places_are_told(world, to_s3, s3) -> None:
    assert to_s3(release=False).error is None
    before = s3.get("dumps/vmcore")
    assert "exists already" in to_s3().error
    outcome = world.capture(target="s3://no-such-bucket/vmcore", patch=s3.patch(), force=True)
    assert outcome.code == 1
    assert "bucket" in outcome.error
    outcome = world.capture(target="s3://crashes", patch=s3.patch())
    assert "is no address" in outcome.error
    assert world.freed == 0
    assert to_s3(force=True).error is None
    assert s3.get("dumps/vmcore") == before


# -- PUT -------------------------------------------------------------------------------------------


def test_to_a_server_that_takes_put(world, put, crashed, stream, tmp_path, monkeypatch) -> None:
    watch(monkeypatch, lambda: put.kept.get("/dumps/vmcore"))
    outcome = world.capture(target=put.address())
    assert outcome.error is None, outcome.error
    assert put.kept["/dumps/vmcore"] == stream
    (tmp_path / "vmcore").write_bytes(stream)
    whole(crashed, tmp_path / "vmcore")
    assert_released(world)


def test_a_put_that_is_cut_or_fails_begins_anew(world, put, stream, monkeypatch) -> None:
    watch(monkeypatch, lambda: put.kept.get("/dumps/vmcore"))
    put.answers = [503, 500]
    with proxy(put.port, [1 << 30, 0, 200_000, 1_000_000]) as between:
        outcome = world.capture(target=put.address(port=between.port), retry_wait=0.01)
        assert outcome.error is None, outcome.error
        assert between.connections == 1 + 3 + 2 + 1
    assert put.kept["/dumps/vmcore"] == stream
    assert_released(world)


@pytest.mark.parametrize("early", [False, True])
def test_a_server_that_refuses_a_put_says_why_and_nothing_is_freed(world, put, early) -> None:
    put.answers, put.early = [413], early
    outcome = world.capture(target=put.address(), retry_wait=0.01)
    assert "413" in outcome.error
    assert world.freed == 0
    assert len(put.headers) == 1, "it is not asked again"


def test_what_a_put_would_replace_is_kept_unless_forced(world, put) -> None:
    put.kept["/dumps/vmcore"] = b"precious"
    assert "exists already" in world.capture(target=put.address()).error
    assert put.kept["/dumps/vmcore"] == b"precious"
    assert world.capture(target=put.address(), force=True, release=False).error is None
    assert len(put.kept["/dumps/vmcore"]) > 1000


def test_a_name_and_a_password_are_given_and_not_shown(world, put) -> None:
    target = put.address().replace("//", "//tom:s3cret@")
    put.answers = [403]
    outcome = world.capture(target=target)
    assert "s3cret" not in outcome.error
    assert "tom@127.0.0.1" in outcome.error
    assert put.headers[0]["Authorization"] == "Basic dG9tOnMzY3JldA=="
    outcome = world.capture(target=target, resume=True, release=False)
    assert outcome.error is None
    assert "s3cret" not in outcome.result.target


def test_a_slow_server_is_waited_for(world, put, stream, monkeypatch) -> None:
    watch(monkeypatch, lambda: put.kept.get("/dumps/vmcore"))
    with proxy(put.port, [], delay=0.05) as between:
        assert world.capture(target=put.address(port=between.port), window=1 << 20).error is None
    assert put.kept["/dumps/vmcore"] == stream
    assert_released(world)


# -- a pipe ----------------------------------------------------------------------------------------


def test_to_a_pipe_memory_is_kept_unless_that_is_wanted(world, crashed, tmp_path) -> None:
    assert to_pipe(world, tmp_path / "flat").error is None
    assert world.freed == 0
    whole(crashed, tmp_path / "flat")


def test_to_a_pipe_and_given_back_at_the_end(world, crashed, tmp_path, stream, monkeypatch) -> None:
    watch(monkeypatch, (tmp_path / "flat").read_bytes)
    assert to_pipe(world, tmp_path / "flat", release=True).error is None
    assert (tmp_path / "flat").read_bytes() == stream
    assert_released(world)


def test_a_pipe_whose_reader_is_gone_frees_nothing(world) -> None:
    def install() -> None:
        import signal

        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        reader, writer = os.pipe()
        sys.stdout = os.fdopen(writer, "w")
        os.close(reader)

    outcome = world.capture(target="-", patch=install, release=True)
    assert "Broken pipe" in outcome.error
    assert world.freed == 0


# -- sealed ----------------------------------------------------------------------------------------


def unsealed(data: bytes, key: Path) -> bytes:
    store = SealedStore(BytesStore(data), [key])
    return bytes(store.view(0, store.size))


def begun(path: Path) -> bytes | None:
    """What is in a sealed file that is not finished: whole chunks, opened with the secret kept."""
    import json

    from phypan.formats import age
    from phypan.sealing.chunks import CHUNK, SEALED, Chunks

    unfinished = path.with_name(path.name + ".incomplete")
    if path.exists() or not unfinished.exists():
        return None
    told = json.loads(path.with_name(path.name + ".journal.secret").read_bytes())
    data = unfinished.read_bytes()
    head = age.read(data)
    nonce = data[head.size : head.size + age.NONCE_SIZE]
    chunks, plain = Chunks(bytes.fromhex(told["file_key"]), nonce), bytearray()
    into = memoryview(bytearray(CHUNK))
    for at in range(head.size + age.NONCE_SIZE, len(data) - SEALED + 1, SEALED):
        number = (at - head.size - age.NONCE_SIZE) // SEALED
        if not chunks.open(number, data[at : at + SEALED], into):
            break
        plain += into
    return bytes(plain) or None


def test_a_sealed_capture_opens_with_the_key_only(world, crashed, key, stream, monkeypatch) -> None:
    def saved() -> bytes | None:
        done = world.target.exists()
        return unsealed(world.target.read_bytes(), key[0]) if done else begun(world.target)

    watch(monkeypatch, saved)
    outcome = world.capture(seal_for=[key[1]], window=1 << 20)
    assert outcome.error is None, outcome.error
    assert outcome.result.first is not None
    assert unsealed(world.target.read_bytes(), key[0]) == stream
    whole(crashed, world.target, keys=[key[0]])
    with pytest.raises(phypan.InputError, match="is sealed"):
        phypan.open(world.target)
    assert [path.name for path in world.target.parent.iterdir()] == ["vmcore"]
    assert_released(world)


@pytest.mark.parametrize("part", range(2))
def test_a_sealed_capture_that_was_killed_goes_on(crashed, key, stream, part, monkeypatch) -> None:
    with rescue_rig.world(crashed) as world:
        calls = world.capture(seal_for=[key[1]], window=1 << 20).calls
    for number in range(2 * part, calls, 5):
        with rescue_rig.world(crashed) as world:

            def saved(world=world) -> bytes | None:
                done = world.target.exists()
                return unsealed(world.target.read_bytes(), key[0]) if done else begun(world.target)

            watch(monkeypatch, saved)
            more = {"seal_for": [key[1]], "window": 1 << 20}
            first = world.capture(kill_at=number, torn=bool(number % 3), **more)
            last = world.capture(resume=True, **more)
            if first.code == 9 and last.error is not None:
                assert "no dump is waiting" in last.error, (number, last.error)
            assert world.unsaved == 0
            assert unsealed(world.target.read_bytes(), key[0]) == stream, number
            assert world.boot.rounds == 1
            left = {path.name for path in world.target.parent.iterdir()}
            assert left == {"vmcore"}, (number, left)


def test_sealed_to_an_ssh_server_that_cuts(world, to_ssh, ssh, key, stream, monkeypatch) -> None:
    state = world.folder / "state"

    def saved() -> bytes | None:
        if world.target.exists():
            return unsealed(world.target.read_bytes(), key[0])
        (secret,) = state.glob("*.secret")
        world.target.with_name("vmcore.journal.secret").write_bytes(secret.read_bytes())
        return begun(world.target)

    watch(monkeypatch, saved)
    with proxy(ssh.port, [1 << 30, 900_000, 1_200_000]) as between:
        ssh.trust(between.port)
        more = {"retry_wait": 0.01, "window": 1 << 20, "seal_for": [key[1]]}
        outcome = to_ssh(port=between.port, **more)
        assert outcome.error is None, outcome.error
        assert between.connections == 1 + 3
    assert unsealed(world.target.read_bytes(), key[0]) == stream
    assert_released(world)


def test_sealed_to_an_s3_server_that_cuts(world, to_s3, s3, key, stream, monkeypatch) -> None:
    monkeypatch.setattr(world, "_look", lambda start, end: None)
    world.boot.on_free = None
    with proxy(s3.port, [1 << 30, 1 << 30, 700_000, 900_000]) as between:
        outcome = to_s3(between.port, retry_wait=0.01, seal_for=[key[1]])
        assert outcome.error is None, outcome.error
    assert unsealed(s3.get("dumps/vmcore"), key[0]) == stream
    assert_released(world)


def test_sealed_to_a_server_that_takes_put_is_sealed_anew_each_time(
    world, put, key, stream, monkeypatch
) -> None:
    watch(monkeypatch, lambda: unsealed(put.kept["/dumps/vmcore"], key[0]))
    put.answers = [500]
    outcome = world.capture(target=put.address(), retry_wait=0.01, seal_for=[key[1]])
    assert outcome.error is None, outcome.error
    assert unsealed(put.kept["/dumps/vmcore"], key[0]) == stream
    assert_released(world)


# -- memory that cannot be read --------------------------------------------------------------------


def test_what_was_lost_in_a_stream_stays_lost_whatever_is_read_later(
    crashed, key, monkeypatch
) -> None:
    """Of the record in which a stream was cut nobody can take back what was sent of it."""
    used = 16 << 20
    while not (data := crashed.before.read(used, 4096).lstrip(b"\0")):
        used += 4096
    used = (used + 4096 - len(data)) // 4096 * 4096
    from tests.rescue.test_capture import unreadable

    monkeypatch.setattr(rescue_rig._Saved, "open", classmethod(lambda cls, target: None))
    for number in range(8, 60, 4):
        with rescue_rig.world(crashed) as world:
            world.boot.on_free = None
            copied = world.boot.layout.copy + used
            more = {"seal_for": [key[1]], "window": 1 << 20}
            first = world.capture(kill_at=number, patch=unreadable(copied, copied + 4096), **more)
            last = world.capture(resume=True, **more)
            if last.error is not None:
                assert first.code != 9 or "no dump is waiting" in last.error, last.error
                continue
            with phypan.open(world.target, keys=[key[0]]) as dump:
                gone = sum(lost.size for lost in last.result.lost)
                assert gone in (0, 4096, 8192)  # the copy need not lie on the border of a page
                for at in range(used - (1 << 20), used + (1 << 20), 512):
                    try:
                        there = dump.memory.read(at, 512)
                    except phypan.NotInDump as error:
                        gone -= 512 * ("Input/output error" in str(error))
                    else:
                        assert there == crashed.before.read(at, 512)
                assert gone <= 0


def test_a_stream_whose_dump_is_gone_says_what_is_missing(crashed, key, monkeypatch) -> None:
    """A record that was begun is filled up with zeros, and these are nobody's memory."""
    monkeypatch.setattr(rescue_rig._Saved, "open", classmethod(lambda cls, target: None))
    closed, reasons = 0, []
    for number in range(36, 64, 4):
        with rescue_rig.world(crashed) as world:
            world.boot.on_free = None
            more = {"seal_for": [key[1]], "window": 1 << 20, "release": False}
            assert world.capture(kill_at=number, **more).code == 9
            for name in ("proc/vmcore", "sys/kernel/release_region"):
                (world.root / name).unlink()
            outcome = world.capture(resume=True, **more)
            if not world.target.exists():
                assert "nothing of it was saved" in outcome.error
                continue
            assert outcome.error is None, outcome.error
            (lost,) = outcome.result.lost
            closed += 1
            there = missing = 0
            with phypan.open(world.target, keys=[key[0]]) as dump:
                assert dump.incomplete
                pages = (page for at, data in crashed.before.chunks(0, 640 << 20)
                         for page in range(at, at + len(data), 4096))  # fmt: skip
                for page in pages:
                    try:
                        found = dump.memory.read(page, 4096)
                    except phypan.NotInDump as error:
                        missing += 1
                        reasons.append(error.why)
                        continue
                    there += 1
                    assert found == crashed.before.read(page, 4096)
            assert there > 0
            assert missing > 0
            assert lost.size > 0
    assert closed
    gone = ["gone before it was saved" in why for why in reasons]
    assert any(gone), "pages in use, and not only zeros at the end"
    others = {why for why, is_gone in zip(reasons, gone, strict=True) if not is_gone}
    assert others <= {"the firmware put what it preserved there"}


# -- compressed ------------------------------------------------------------------------------------

ZLIB = {"compress": "zlib", "window": 1 << 20}


def smaller_steps() -> None:
    """What is certain follows closely: there is little in this memory."""
    from phypan.places import s3, sealed

    s3._LEAST, s3._MIB = 40_000, 1
    sealed._AT_ONCE = 1


@pytest.fixture(scope="module")
def compressed_stream(crashed, uninterrupted_compressed, tmp_path_factory):
    """The flattened compressed dump that a capture without any disturbance makes."""
    path = tmp_path_factory.mktemp("compressed") / "flat"
    with rescue_rig.world(crashed) as world:
        assert to_pipe(world, path, release=False, compress="zlib").error is None
    return path.read_bytes()


def test_a_compressed_stream_has_in_it_what_a_path_gets(
    compressed_stream, uninterrupted_compressed, tmp_path
) -> None:
    store = FlattenedStore(BytesStore(compressed_stream))
    (tmp_path / "vmcore").write_bytes(store.view(0, store.size))
    assert rescue_rig.content(tmp_path / "vmcore") == uninterrupted_compressed[0]


def test_compressed_to_a_pipe_and_given_back_at_the_end(
    world, crashed, tmp_path, compressed_stream, monkeypatch
) -> None:
    watch(monkeypatch, (tmp_path / "flat").read_bytes)
    assert to_pipe(world, tmp_path / "flat", release=True, compress="zlib").error is None
    assert (tmp_path / "flat").read_bytes() == compressed_stream
    whole(crashed, tmp_path / "flat")
    assert_released(world)


@pytest.mark.parametrize("cut", [0, 3000, 400_000])
def test_compressed_to_an_ssh_server_that_cuts(
    world, to_ssh, ssh, uninterrupted_compressed, cut
) -> None:
    with proxy(ssh.port, [1 << 30, cut, cut, cut // 2]) as between:
        ssh.trust(between.port)
        outcome = to_ssh(port=between.port, retry_wait=0.01, **ZLIB)
        assert outcome.error is None, outcome.error
        assert outcome.result.first is not None
        assert between.connections >= 3
    assert rescue_rig.content(world.target) == uninterrupted_compressed[0]
    assert_released(world)


@pytest.mark.parametrize("cut", [None, 0, 100_000, 500_000])
def test_compressed_to_an_s3_server_that_cuts(world, to_s3, s3, compressed_stream, cut) -> None:
    cuts = [] if cut is None else [1 << 30, 1 << 30, cut, cut, 0]
    with proxy(s3.port, cuts) as between:
        outcome = to_s3(between.port, retry_wait=0.01, **ZLIB)
        assert outcome.error is None, outcome.error
    assert outcome.result.first is not None, "memory was given back on the way"
    assert s3.get("dumps/vmcore") == compressed_stream
    assert len(s3.uploads()) == 0, "it was one upload"
    assert_released(world)


@pytest.mark.parametrize("part", range(2))
def test_compressed_killed_and_gone_on_with_over_s3(
    crashed, s3, compressed_stream, monkeypatch, part
) -> None:
    watch(monkeypatch, lambda: so_far(s3))
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1000)
    install, freed = each(s3.patch(), smaller_steps), 0
    with rescue_rig.world(crashed) as world:
        calls = world.capture(target=KEY, patch=install, **ZLIB).calls
    spread = range(1 + part * calls // 16, calls, calls // 8)
    late = range(calls - 2, calls // 2, -3)  # what is given back when is for the threads to say
    for number in (*spread, *late):
        if freed and number not in spread:
            break
        s3.clear()
        with rescue_rig.world(crashed) as world:
            capture = partial(world.capture, target=KEY, patch=install, **ZLIB)
            first = capture(kill_at=number)
            freed += world.freed > 0 and s3.get("dumps/vmcore") is None
            last = capture(resume=True)
            if first.code == 9 and last.error is not None:
                assert "no dump is waiting" in last.error, last.error
            assert world.unsaved == 0
            assert s3.get("dumps/vmcore") == compressed_stream, number
            assert_released(world)
    assert freed, "memory is given back before the object is whole"


def test_a_put_that_fails_sends_a_compressed_dump_anew(
    world, put, compressed_stream, monkeypatch
) -> None:
    watch(monkeypatch, lambda: put.kept.get("/dumps/vmcore"))
    put.answers = [503]
    outcome = world.capture(target=put.address(), retry_wait=0.01, **ZLIB)
    assert outcome.error is None, outcome.error
    assert put.kept["/dumps/vmcore"] == compressed_stream
    assert_released(world)


def test_compressed_to_what_fsspec_writes_to(world, tmp_path, compressed_stream, monkeypatch):
    """A protocol of its own that keeps files in a folder: as any that phypan does not know."""

    def install() -> None:
        from fsspec import register_implementation
        from fsspec.implementations.local import LocalFileSystem

        class Elsewhere(LocalFileSystem):
            protocol = "elsewhere"

            @classmethod
            def _strip_protocol(cls, path):
                return str(path).removeprefix("elsewhere://")

        register_implementation("elsewhere", Elsewhere, clobber=True)

    path = tmp_path / "vmcore"
    watch(monkeypatch, lambda: path.read_bytes() if path.exists() else None)
    outcome = world.capture(target=f"elsewhere://{path}", patch=install, **ZLIB)
    assert outcome.error is None, outcome.error
    assert path.read_bytes() == compressed_stream
    assert_released(world)


@pytest.mark.parametrize("part", range(2))
def test_compressed_and_sealed_it_is_killed_and_goes_on(
    crashed, key, compressed_stream, part, monkeypatch
) -> None:
    more = {"seal_for": [key[1]], "patch": smaller_steps, **ZLIB}
    with rescue_rig.world(crashed) as world:
        calls = world.capture(**more).calls
    freed = 0
    for number in range(2 + part * calls // 24, calls, calls // 12):
        with rescue_rig.world(crashed) as world:

            def saved(world=world) -> bytes | None:
                done = world.target.exists()
                return unsealed(world.target.read_bytes(), key[0]) if done else begun(world.target)

            watch(monkeypatch, saved)
            first = world.capture(kill_at=number, torn=bool(number % 3), **more)
            freed += world.freed > 0 and not world.target.exists()
            last = world.capture(resume=True, **more)
            if first.code == 9 and last.error is not None:
                assert "no dump is waiting" in last.error, (number, last.error)
            assert world.unsaved == 0
            assert unsealed(world.target.read_bytes(), key[0]) == compressed_stream, number
            assert world.boot.rounds == 1
            assert {path.name for path in world.target.parent.iterdir()} == {"vmcore"}, number
    assert freed


def test_compressed_and_sealed_to_an_s3_server_that_cuts(
    world, to_s3, s3, key, compressed_stream, monkeypatch
) -> None:
    monkeypatch.setattr(world, "_look", lambda start, end: None)
    world.boot.on_free = None
    with proxy(s3.port, [1 << 30, 1 << 30, 700_000, 900_000]) as between:
        outcome = to_s3(between.port, retry_wait=0.01, seal_for=[key[1]], **ZLIB)
        assert outcome.error is None, outcome.error
    assert unsealed(s3.get("dumps/vmcore"), key[0]) == compressed_stream
    assert_released(world)


@pytest.mark.parametrize("kind", ["another codec", "not to be read any more", "gone"])
def test_a_compressed_stream_that_cannot_be_made_again_is_right_all_the_same(
    crashed, key, monkeypatch, kind, uninterrupted_compressed
) -> None:
    """What is different is put again behind what is there: of two records the later counts."""
    monkeypatch.setattr(rescue_rig._Saved, "open", classmethod(lambda cls, target: None))
    from tests.rescue.test_capture import unreadable

    more = {"seal_for": [key[1]], **ZLIB}

    def stopped(world: World, number: int):
        release = kind == "another codec"
        return world.capture(kill_at=number, release=release, patch=smaller_steps, **more)

    def other_codec() -> None:
        from phypan.pages import codecs

        smaller_steps()
        real = codecs.named
        codecs.named = lambda name: real("zstd" if name == "zlib" else name)

    told = 0
    for number in range(40, uninterrupted_compressed[1] - 20, 24):
        with rescue_rig.world(crashed) as world:
            world.boot.on_free = None
            stopped(world, number)
            if not world.target.with_name("vmcore.journal").exists():
                continue  # it was all done
            patch = other_codec
            if kind == "gone":
                for name in ("proc/vmcore", "sys/kernel/release_region"):
                    (world.root / name).unlink()
            elif kind == "not to be read any more":
                patch = unreadable(0, world.boot.layout.start + (1 << 30))
            last = world.capture(resume=True, patch=patch, **more)
            if not world.target.exists():
                assert "nothing of it was saved" in last.error
                continue
            assert last.error is None, (number, last.error)
            told += bool(last.result.lost) or kind == "another codec"
            with phypan.open(world.target, keys=[key[0]]) as dump:
                assert_all_but_what_was_lost(dump, crashed, last.result.lost)
    assert told > 3


def assert_all_but_what_was_lost(dump, crashed, lost) -> None:
    assert dump.incomplete == bool(lost)
    for at, data in crashed.before.chunks(0, 383 << 20):  # behind that is the save area
        for page in range(at, at + len(data), 4096):
            if any(e.at <= page < e.at + e.size for e in lost):
                assert dump.memory.at(page).state is phypan.PageState.DAMAGED
            else:
                expected = data[page - at :][:4096]
                assert dump.memory.read(page, len(expected)) == expected


@pytest.mark.parametrize("more", [{}, {"compress": "zlib"}])
def test_a_filtered_dump_goes_to_places_too(world, crashed, put, key, more, tmp_path) -> None:
    """-E -d and -z -d alike, sealed and not: what is left out is not there, and all else is."""
    from tests.rescue.test_compressed import CACHE, with_kinds

    world.boot.on_free = None
    wishes = {"dump_level": 8, "patch": with_kinds, "window": 1 << 20, **more}
    assert world.capture(target=put.address(), release=False, **wishes).error is None
    assert world.capture(seal_for=[key[1]], **wishes).error is None
    (tmp_path / "vmcore").write_bytes(put.kept["/dumps/vmcore"])
    for path, keys in ((tmp_path / "vmcore", []), (world.target, [key[0]])):
        with phypan.open(path, keys=keys) as dump:
            assert dump.format == ("kdump" if more else "elf")
            for at, data in crashed.before.chunks(0, dump.memory.end):
                if at // 4096 // CACHE % 2:
                    assert dump.memory.state(at)[0] is phypan.PageState.EXCLUDED
                else:
                    assert dump.memory.read(at, len(data)) == data
