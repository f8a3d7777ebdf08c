"""read: bytes as they are in the dump, in every space; what is missing has its reason."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phypan


def rows(dump: phypan.Dump, place: str, **options) -> list:
    return list(phypan.run(dump, "read", place=place, **options))


def joined(found: list) -> bytes:
    return b"".join(bytes.fromhex(row.data or "") for row in found)


def made(data: bytes, at: int = 0x10000) -> phypan.Dump:
    memory = phypan.Memory([phypan.Extent(at, len(data), phypan.BytesStore(data), 0)])
    return phypan.Dump("made", memory, byte_order="big")


@given(st.binary(min_size=1, max_size=300), st.integers(0, 100), st.integers(1, 400))
def test_every_byte_is_shown_or_is_missing(data, skip, size) -> None:
    dump = made(data)
    first = 0x10000 - 50 + skip
    found = rows(dump, f"{first:#x}", size=size, space="physical")
    assert sum(row.size for row in found) == size
    at = first
    for row in found:
        assert row.address == at
        at += row.size
        inside = data[max(0, row.address - 0x10000) : max(0, at - 0x10000)]
        if row.data is None:
            assert row.missing == "absent: no part of the dump covers it"
            assert row.address >= 0x10000 + len(data) or at <= 0x10000
        else:
            assert bytes.fromhex(row.data) == inside
            assert row.physical == row.address
            assert len(row.text) == row.size <= 16
            assert b"".join(word.to_bytes(8, "big") for word in row.words) == inside[
                : len(inside) // 8 * 8
            ]  # fmt: skip


def test_it_is_what_crash_reads(opened, real_of, crash_says) -> None:
    said = crash_says(real_of(opened), "rd linux_banner 8")
    theirs = re.findall(r"^([0-9a-f]{16}):  ([0-9a-f]{16}) ([0-9a-f]{16})", said, re.MULTILINE)
    assert len(theirs) == 4
    found = rows(opened, "linux_banner", size=64)
    assert [(f"{r.address:016x}", *(f"{w:016x}" for w in r.words)) for r in found] == theirs


def test_memory_of_a_process_is_its_own(opened) -> None:
    """What phypan_alpha was started with stands at mm->arg_start."""
    from phypan.linux import tasks

    task = next(task for task in tasks.each(opened) if task.comm == "phypan_alpha")
    start = int(task.task.mm.arg_start)
    found = rows(opened, f"{start:#x}", pid=task.pid, size=64)
    words = joined(found).split(b"\0")
    assert b"/bin/phypan_alpha" in words
    assert found[0].physical != start
    physical = rows(opened, f"{found[0].physical:#x}", space="physical", size=64)
    assert joined(physical) == joined(found)


def test_a_place_is_a_symbol_with_an_offset(opened) -> None:
    banner = opened.symbols.address("linux_banner")
    whole = joined(rows(opened, "linux_banner", size=32))
    assert whole.startswith(b"Linux version 6.12")
    assert joined(rows(opened, "linux_banner+0x6", size=26)) == whole[6:]
    assert joined(rows(opened, f"{banner + 6:x}", size=26)) == whole[6:]
    with pytest.raises(phypan.Unsupported, match="no address and no symbol: 'linux_baner'"):
        rows(opened, "linux_baner")


def test_what_is_not_mapped_says_why(opened) -> None:
    (row,) = rows(opened, "c009000000000000", size=1 << 16)
    assert (row.data, row.physical, row.size) == (None, None, 1 << 16)
    assert "not mapped" in row.missing
    (row,) = rows(opened, "ffffffffffffff00", size=4096)
    assert row.size == 256, "the addresses end there"


@pytest.mark.parametrize("size", [0, -1, (16 << 20) + 1])
def test_a_wild_size_is_refused(opened, size) -> None:
    with pytest.raises(phypan.Unsupported, match="cannot be shown"):
        rows(opened, "linux_banner", size=size)


def test_from_the_command_line(real, phypan_command) -> None:
    done = phypan_command("read", real.path, "linux_banner", "--size", 16)
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(
        r"[0-9a-f]{16}  4c 69 6e 75 78 20 76 65  72 73 69 6f 6e 20 36 2e  Linux version 6\.\n",
        done.out,
    )
