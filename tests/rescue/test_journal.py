"""A journal gives back what was put in, ignores what was cut short, refuses what was damaged."""

from __future__ import annotations

import errno
import os
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phypan.errors import InputError, OutputError
from phypan.rescue.journal import Journal

RECORDS = st.lists(
    st.dictionaries(st.text(max_size=8), st.integers() | st.lists(st.integers()) | st.text(),
                    max_size=4), max_size=6,
)  # fmt: skip


def written(path, records) -> bytes:
    path.unlink(missing_ok=True)
    with Journal(path, new=True) as journal:
        for record in records:
            journal.append(record)
    return path.read_bytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("journal") / "vmcore.journal"


def test_a_line_is_what_its_description_says(path) -> None:
    """Put together by hand: length, its complement, CRC-32 of the line's number and the text."""
    text = b'{"saved":[[0,65536]]}'
    checksum = zlib.crc32(b"0" + text)
    data = f"{len(text):08x} {0xFFFFFFFF - len(text):08x} {checksum:08x} ".encode() + text + b"\n"
    assert written(path, [{"saved": [[0, 65536]]}]) == data


@given(RECORDS)
def test_what_is_appended_is_there_when_it_is_opened_again(path, records) -> None:
    written(path, records)
    with Journal(path) as journal:
        assert journal.records == records
        journal.append({"more": 1})
    with Journal(path) as journal:
        assert journal.records == [*records, {"more": 1}]


@given(RECORDS.filter(len), st.data())
def test_a_last_line_that_was_cut_short_was_never_written(path, records, data) -> None:
    whole = written(path, records)
    last = len(written(path, records[:-1]))
    cut = data.draw(st.integers(last, len(whole) - 1))
    nuls = data.draw(st.sampled_from([0, len(whole) - cut, 4096]))
    path.write_bytes(whole[:cut] + bytes(nuls))
    with Journal(path) as journal:
        assert journal.records == records[:-1]
        journal.append({"on": 1})
    with Journal(path) as journal:
        assert journal.records == [*records[:-1], {"on": 1}]


@given(RECORDS.filter(len), st.data())
@settings(max_examples=200)
def test_a_byte_that_was_changed_is_refused(path, records, data) -> None:
    whole = bytearray(written(path, records))
    at = data.draw(st.integers(0, len(whole) - 1))
    # A last byte that became NUL looks like space that was never written.
    values = st.integers(0 if at < len(whole) - 1 else 1, 255)
    whole[at] = data.draw(values.filter(lambda value: value != whole[at]))
    path.write_bytes(whole)
    with pytest.raises(InputError, match="damaged"):
        Journal(path)


@given(RECORDS.filter(lambda records: len(records) > 1), st.data())
def test_a_line_that_is_missing_or_moved_is_refused(path, records, data) -> None:
    lines = written(path, [*records, {"end": 1}]).splitlines(keepends=True)
    index = data.draw(st.integers(0, len(lines) - 2))
    line = lines.pop(index)
    if data.draw(st.booleans()):
        lines.append(line)
    path.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match="damaged"):
        Journal(path)


def test_only_one_at_a_time(path) -> None:
    written(path, [{"a": 1}])
    with Journal(path), pytest.raises(OutputError, match="another capture"):
        Journal(path)
    Journal(path).close()


def test_a_new_one_does_not_replace_another(path) -> None:
    written(path, [])
    with pytest.raises(OutputError, match="exists"):
        Journal(path, new=True)


def test_one_that_is_not_there_is_an_input_error(tmp_path) -> None:
    with pytest.raises(InputError):
        Journal(tmp_path / "none")


def test_a_full_disk_leaves_the_lines_before_it(path, monkeypatch) -> None:
    written(path, [{"a": 1}])
    pwrite = os.pwrite

    def full(fd: int, data: bytes, at: int) -> int:
        if len(data) > 10:
            return pwrite(fd, bytes(data[:10]), at)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(path) as journal:
        monkeypatch.setattr(os, "pwrite", lambda fd, data, at: full(fd, data[:10], at))
        with pytest.raises(OutputError, match="No space") as caught:
            journal.append({"b": "x" * 60, "c": "d"})
        assert caught.value.hint
        monkeypatch.undo()
        journal.append({"c": 2})
    with Journal(path) as journal:
        assert journal.records == [{"a": 1}, {"c": 2}]


def test_it_is_its_owners_only_and_gone_when_removed(path) -> None:
    written(path, [])
    assert path.stat().st_mode & 0o777 == 0o600
    with Journal(path) as journal:
        journal.remove()
    assert not path.exists()
