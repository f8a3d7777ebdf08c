"""The archive, read by cpio itself."""

from __future__ import annotations

import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.platform.qemu import cpio

FILES = (
    cpio.directory("bin"),
    cpio.character_device("dev/console", 5, 1),
    cpio.program("init", b"#!/bin/sh\n"),
    cpio.plain("empty", b""),
    cpio.plain("a/deep/name", bytes(range(256)) * 3),
)


def test_cpio_lists_it(peer) -> None:
    done = subprocess.run(
        [peer("cpio"), "-tvn", "--numeric-uid-gid"],
        input=cpio.write(FILES),
        capture_output=True,
        check=True,
    )
    lines = done.stdout.decode().splitlines()
    assert [line.split()[-1] for line in lines] == [file.name for file in FILES]
    assert [line.split()[0] for line in lines] == [stat.filemode(file.mode) for file in FILES]
    assert "5,   1" in lines[1]


def test_cpio_unpacks_it(peer, tmp_path) -> None:
    files = [file for file in FILES if not stat.S_ISCHR(file.mode)]
    subprocess.run(
        [peer("cpio"), "-idm", "--quiet"], input=cpio.write(files), cwd=tmp_path, check=True
    )
    for file in files:
        path = tmp_path / file.name
        assert path.stat().st_mode == file.mode
        assert path.is_dir() or path.read_bytes() == file.data


def test_an_archive_written_by_cpio_is_written_alike(peer, tmp_path) -> None:
    """But for what phypan does not keep: inode numbers, owners, times, the file system."""
    (tmp_path / "file").write_bytes(b"contents")
    (tmp_path / "file").chmod(0o644)
    done = subprocess.run(
        [peer("cpio"), "-o", "-H", "newc", "--quiet"],
        input=b"file\n", capture_output=True, cwd=tmp_path, check=True,
    )  # fmt: skip

    def kept(archive: bytes) -> tuple[bytes, bytes, bytes]:
        # magic and inode | mode | uid, gid | links | time | size | device | node, name, check
        return archive[14:22], archive[54:62], archive[78:132]

    ours = cpio.write([cpio.plain("file", b"contents")])
    assert kept(ours) == kept(done.stdout)
    assert ours[110:128] == b"file\0" + bytes(1) + b"contents" + b"0707", (
        "both padded to four bytes"
    )


@given(
    st.lists(
        st.builds(
            cpio.File,
            st.text("abc/.-_é", min_size=1, max_size=20),
            st.integers(0, 0o177777),
            st.binary(max_size=70),
        ),
        max_size=6,
    )
)
def test_entries_are_padded_and_whole(files: list[cpio.File]) -> None:
    """Read again by the kernel's document alone."""
    archive, at, found = cpio.write(files), 0, []
    while True:
        assert archive[at : at + 6] == b"070701"
        assert at % 4 == 0
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = archive[at + 110 : at + 110 + fields[11]]
        assert name[-1:] == b"\0"
        at += -(-(110 + fields[11]) // 4) * 4
        data = archive[at : at + fields[6]]
        at += -(-fields[6] // 4) * 4
        if name == b"TRAILER!!!\0":
            break
        found.append((name[:-1].decode(), fields[1], data))
    assert at == len(archive)
    assert found == [(file.name, file.mode, file.data) for file in files]


def test_a_file_that_is_too_large_is_refused() -> None:
    class Large(bytes):
        def __len__(self) -> int:
            return 1 << 32

    with pytest.raises(BadRecord, match="too many for cpio"):
        cpio.write([cpio.plain("large", Large())])
