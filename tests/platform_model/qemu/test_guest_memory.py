"""The guest's memory: a file that is shared, read in pieces, and kept sparse."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from phypan.platform.qemu import guest_memory
from phypan.platform.qemu.guest_memory import GuestMemory

SIZE = 16 << 20
WRITES = st.lists(
    st.tuples(st.integers(0, SIZE - 1), st.binary(min_size=1, max_size=300)), max_size=10
)


@given(WRITES)
def test_blocks_are_all_that_is_not_zeros(writes: list[tuple[int, bytes]]) -> None:
    expected = bytearray(SIZE)
    with GuestMemory(SIZE) as memory:
        for at, data in writes:
            kept = data[: SIZE - at]
            os.pwrite(memory.descriptor, kept, at)
            expected[at : at + len(kept)] = kept
        found = bytearray(SIZE)
        last = -1
        for at, block in memory.blocks():
            assert at > last
            assert any(block)
            found[at : at + len(block)] = block
            last = at
    assert found == expected


def test_another_process_opens_it_by_its_path() -> None:
    with GuestMemory(SIZE) as memory:
        with open(memory.path, "r+b") as file:
            file.seek(5)
            file.write(b"shared")
        assert os.pread(memory.descriptor, 6, 5) == b"shared"


def test_it_is_saved_sparse(tmp_path) -> None:
    with GuestMemory(SIZE) as memory:
        os.pwrite(memory.descriptor, bytes(SIZE), 0)  # zeros that take room
        os.pwrite(memory.descriptor, b"end", SIZE - 3)
        memory.save(tmp_path / "ram")
    data = (tmp_path / "ram").read_bytes()
    assert len(data) == SIZE
    assert data[-3:] == b"end"
    assert not any(data[:-3])
    assert (tmp_path / "ram").stat().st_blocks * 512 <= 128 << 10
    assert (tmp_path / "ram").stat().st_mode & 0o777 == 0o600


def test_a_file_is_made_sparse_in_place(tmp_path) -> None:
    content = b"head" + bytes(1 << 20) + b"tail" + bytes(70000) + b"x"
    (tmp_path / "file").write_bytes(content)
    guest_memory.make_sparse(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
    assert (tmp_path / "file").stat().st_blocks * 512 <= 256 << 10
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
