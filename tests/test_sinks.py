"""What is not finished is never under its final name, and nobody's file is overwritten."""

from __future__ import annotations

import os
import resource
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import InputError, OutputError
from phypan.sinks import FileOutput
from phypan.stores import BytesStore, FileStore


def test_it_has_its_name_only_when_it_is_finished(folder) -> None:
    target = folder / "vmcore"
    with FileOutput(target) as output:
        output.write_at(0, b"hello")
        assert not target.exists()
        assert output.unfinished == folder / "vmcore.incomplete"
        assert stat.S_IMODE(output.unfinished.stat().st_mode) == 0o600
    assert target.read_bytes() == b"hello"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert os.listdir(folder) == ["vmcore"]


def test_memory_of_a_crashed_machine_is_private_whatever_the_umask(folder) -> None:
    before = os.umask(0)
    try:
        with FileOutput(folder / "vmcore"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "vmcore").stat().st_mode) == 0o600


def test_after_an_error_only_the_incomplete_file_is_there(folder) -> None:
    def attempt() -> None:
        with FileOutput(folder / "vmcore") as output:
            output.write_at(0, b"half")
            raise InputError("it broke")

    with pytest.raises(InputError, match="it broke"):
        attempt()
    assert os.listdir(folder) == ["vmcore.incomplete"]
    assert (folder / "vmcore.incomplete").read_bytes() == b"half"


def test_a_second_attempt_begins_anew(folder) -> None:
    (folder / "vmcore.incomplete").write_bytes(b"left from the first attempt")
    (folder / "vmcore.incomplete").chmod(0o644)
    with FileOutput(folder / "vmcore") as output:
        output.write_at(0, b"new")
    assert (folder / "vmcore").read_bytes() == b"new"
    assert stat.S_IMODE((folder / "vmcore").stat().st_mode) == 0o600


def test_a_file_that_exists_is_kept_without_force(folder) -> None:
    target = folder / "vmcore"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already") as caught:
        FileOutput(target)
    assert "--force" in caught.value.hint
    assert target.read_bytes() == b"old"
    with FileOutput(target, force=True) as output:
        output.write_at(0, b"new")
        assert target.read_bytes() == b"old", "until the new one is finished"
    assert target.read_bytes() == b"new"


def test_a_file_that_came_while_we_wrote_is_kept(folder) -> None:
    target = folder / "vmcore"

    def attempt() -> None:
        with FileOutput(target) as output:
            output.write_at(0, b"ours")
            target.write_bytes(b"theirs")

    with pytest.raises(OutputError, match="exists already"):
        attempt()
    assert target.read_bytes() == b"theirs"
    assert (folder / "vmcore.incomplete").read_bytes() == b"ours"


@pytest.mark.parametrize("name", [".", "/", "..", ""])
@pytest.mark.parametrize("force", [False, True])
def test_a_directory_is_no_target(name, force) -> None:
    with pytest.raises(OutputError, match="is a directory") as caught:
        FileOutput(name, force=force)
    assert caught.value.hint == "name a file in it"


def test_a_device_is_not_replaced_by_a_file(folder) -> None:
    os.mkfifo(folder / "fifo")
    for path in (folder / "fifo", "/dev/null"):
        with pytest.raises(OutputError, match="is not a file"):
            FileOutput(path, force=True)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_missing_folder(folder) -> None:
    with pytest.raises(OutputError, match="No such file") as caught:
        FileOutput(folder / "none" / "vmcore")
    assert "directory" in caught.value.hint


def test_a_name_that_is_too_long(folder) -> None:
    with pytest.raises(OutputError, match="too long"):
        FileOutput(folder / ("x" * 250))


def test_a_name_that_is_none_at_all(folder) -> None:
    with pytest.raises(OutputError):
        FileOutput(f"{folder}/a\0b")


def test_a_folder_that_may_not_be_written(folder, unprivileged) -> None:
    def attempt() -> str:
        try:
            FileOutput("vmcore")
        except OutputError as error:
            return f"{error} | {error.hint}"
        return "written"

    assert unprivileged(attempt, folder) == (
        "vmcore.incomplete: Permission denied | choose a directory that you may write to"
    )


def test_a_folder_that_may_not_be_looked_into(folder, unprivileged) -> None:
    (folder / "closed").mkdir(mode=0)
    (folder / "closed").chmod(0)

    def attempt() -> str:
        try:
            FileOutput("closed/vmcore")
        except OutputError as error:
            return str(error)
        return "written"

    assert unprivileged(attempt, folder) == "closed/vmcore: Permission denied"


def test_a_drop_box_that_may_be_written_and_not_read_is_enough(folder, unprivileged) -> None:
    (folder / "box").mkdir()
    (folder / "box").chmod(0o333)

    def attempt() -> str:
        with FileOutput("box/vmcore") as output:
            output.write_at(0, b"x")
        return "written"

    assert unprivileged(attempt, folder) == "written"
    assert (folder / "box" / "vmcore").read_bytes() == b"x"


@pytest.mark.parametrize("trap", ["symlink", "dangling symlink", "hard link", "directory", "fifo"])
def test_a_trap_at_the_unfinished_name_is_refused(folder, trap) -> None:
    precious, unfinished = folder / "precious", folder / "vmcore.incomplete"
    if trap != "dangling symlink":
        precious.write_bytes(b"precious")
    {
        "symlink": lambda: unfinished.symlink_to(precious),
        "dangling symlink": lambda: unfinished.symlink_to(precious),
        "hard link": lambda: os.link(precious, unfinished),
        "directory": unfinished.mkdir,
        "fifo": lambda: os.mkfifo(unfinished),
    }[trap]()
    with pytest.raises(OutputError, match=r"vmcore\.incomplete"):
        FileOutput(folder / "vmcore", force=True)
    assert trap == "dangling symlink" or precious.read_bytes() == b"precious"
    assert precious.exists() != (trap == "dangling symlink")


def test_a_file_of_somebody_else_at_the_unfinished_name_is_refused(folder) -> None:
    """Who made it beforehand would read the dump: it is his file."""
    unfinished = folder / "vmcore.incomplete"
    unfinished.write_bytes(b"")
    try:
        os.chown(unfinished, 65534, 65534)
    except PermissionError:
        pytest.skip("needs root to give a file away")
    with pytest.raises(OutputError, match="not as phypan leaves it") as caught:
        FileOutput(folder / "vmcore")
    assert caught.value.hint == "remove it"


def test_two_do_not_write_one_file_at_the_same_time(folder) -> None:
    with FileOutput(folder / "vmcore") as first:
        first.write_at(0, b"first")
        with pytest.raises(OutputError, match="in use"):
            FileOutput(folder / "vmcore")
    assert (folder / "vmcore").read_bytes() == b"first"


def test_what_is_being_read_is_not_overwritten(folder) -> None:
    """phypan convert vmcore.incomplete vmcore: the source would be emptied before it is read."""
    leftover = folder / "vmcore.incomplete"
    leftover.write_bytes(b"all there is")
    with FileStore(leftover) as store:
        with pytest.raises(OutputError, match="in use"):
            FileOutput(folder / "vmcore")
        assert bytes(store.view(0, 12)) == b"all there is"


def test_a_symlink_to_the_target_is_replaced_and_what_it_names_is_kept(folder) -> None:
    (folder / "real").write_bytes(b"real")
    (folder / "vmcore").symlink_to(folder / "real")
    with pytest.raises(OutputError, match="exists already"):
        FileOutput(folder / "vmcore")
    with FileOutput(folder / "vmcore", force=True) as output:
        output.write_at(0, b"new")
    assert (folder / "real").read_bytes() == b"real"
    assert (folder / "vmcore").read_bytes() == b"new"


def test_a_limit_of_the_file_size_is_an_error_with_a_hint(folder, unprivileged) -> None:
    def attempt() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            with FileOutput("vmcore") as output:
                output.copy(BytesStore(b"\xff" * (4 << 20)), 0, 4 << 20, 0)
        except OutputError as error:
            return f"{error} | {error.hint}"
        return "written"

    folder.chmod(0o777)
    (folder / "x").mkdir()
    (folder / "x").chmod(0o777)
    os.chown(folder, 65534, 65534) if os.getuid() == 0 else None
    told = unprivileged(attempt, folder)
    assert told.startswith("vmcore.incomplete: File too large | ")
    assert "ulimit" in told
    assert not (folder / "vmcore").exists()


@pytest.fixture
def small_disk(folder):
    """A file system of one MiB."""
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs root to mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_an_error_with_a_hint(small_disk) -> None:
    noise = BytesStore(os.urandom(1 << 20) * 4)
    with (
        pytest.raises(OutputError, match="No space left") as caught,
        FileOutput(small_disk / "vmcore") as output,
    ):
        output.copy(noise, 0, 4 << 20, 0)
    assert "free some space" in caught.value.hint
    assert os.listdir(small_disk) == ["vmcore.incomplete"]


def test_a_disk_that_is_read_only_is_an_error_with_a_hint(small_disk) -> None:
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    if subprocess.run(remount, capture_output=True, check=False).returncode:
        pytest.skip("this kernel does not mount it anew")
    with pytest.raises(OutputError, match="Read-only file system") as caught:
        FileOutput(small_disk / "vmcore")
    assert caught.value.hint == "choose another file system"


def test_a_source_that_shrinks_is_an_error_and_not_zeros(folder) -> None:
    source = folder / "ram"
    source.write_bytes(b"\xff" * (8 << 20))
    with FileStore(source) as store:
        os.truncate(source, 1 << 20)
        with pytest.raises(InputError, match="shorter"), FileOutput(folder / "vmcore") as output:
            output.copy(store, 0, 8 << 20, 0)
    assert sorted(os.listdir(folder)) == ["ram", "vmcore.incomplete"]


blocks = st.lists(
    st.sampled_from([bytes(65536), bytes(1000), b"\1" * 65536, bytes(65535) + b"\1", b"\1", b""]),
    max_size=80,
)


@given(blocks, st.integers(0, 70000), st.integers(0, 70000))
def test_what_is_copied_is_what_was_there(tmp_path_factory, parts, skip, at) -> None:
    data = b"".join(parts)
    skip = min(skip, len(data))
    target = tmp_path_factory.mktemp("copy") / "out"
    with FileOutput(target) as output:
        output.copy(BytesStore(data), skip, len(data) - skip, at)
        output.truncate(at + len(data) - skip)
    assert target.read_bytes() == bytes(at) + data[skip:]


def test_zeros_take_no_room(folder) -> None:
    with FileOutput(folder / "vmcore") as output:
        output.copy(BytesStore(bytes(8 << 20)), 0, 8 << 20, 0)
        output.copy(BytesStore(b"x" * 65536), 0, 65536, 8 << 20)
        output.truncate(16 << 20)
    found = (folder / "vmcore").stat()
    assert found.st_size == 16 << 20
    assert found.st_blocks * 512 < 1 << 20
    assert (folder / "vmcore").read_bytes() == bytes(8 << 20) + b"x" * 65536 + bytes(
        (8 << 20) - 65536
    )


def test_holes_of_the_source_are_holes_of_the_copy(folder) -> None:
    source = folder / "ram"
    with source.open("wb") as file:
        file.seek(32 << 20)
        file.write(b"here")
        file.truncate(64 << 20)
    with FileStore(source) as store, FileOutput(folder / "copy") as output:
        output.copy(store, 0, store.size, 65536)
        output.truncate(65536 + store.size)
    assert (folder / "copy").stat().st_blocks * 512 < 1 << 20
    with (folder / "copy").open("rb") as file:
        file.seek(65536 + (32 << 20))
        assert file.read(5) == b"here\0"


def test_no_descriptor_is_left_behind(folder) -> None:
    (folder / "there").touch()
    (folder / "trap.incomplete").symlink_to("there")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("there", "trap", ".", "none/x"):
        with pytest.raises(OutputError):
            FileOutput(folder / name)
    with FileOutput(folder / "fine"):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
