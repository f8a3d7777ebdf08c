"""A file that is made certain by one thread while another one writes to it."""

from __future__ import annotations

import errno
import os
import threading

import pytest

import phypan
from phypan.rescue.local import LocalFile


def test_what_is_being_written_is_not_read_back_before_it_is(tmp_path, monkeypatch) -> None:
    file = LocalFile(tmp_path / "file")
    file.put(0, b"first")
    real, said = os.pwrite, []

    def pwrite(fd: int, data: bytes, at: int) -> int:
        def confirm() -> None:
            said.append(file.confirm())

        thread = threading.Thread(target=confirm)
        thread.start()
        thread.join()
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    file.put(5, b"second")
    assert said == [None], "it was certain of the first, and did not ask for the second"
    monkeypatch.undo()
    file.finish(11)
    file.close()
    assert (tmp_path / "file").read_bytes() == b"firstsecond"


def test_what_another_one_writes_over_it_is_found(tmp_path) -> None:
    file = LocalFile(tmp_path / "file")
    file.put(0, b"first")
    file.unfinished.write_bytes(b"other")
    with pytest.raises(phypan.OutputError, match="read back are not what was written"):
        file.confirm()
    file.close()


def test_a_disk_that_fails_while_it_is_read_back_is_told_and_nothing_else(
    tmp_path, monkeypatch
) -> None:
    """Also when the file is closed while the error is on its way, as captures do."""

    def preadv(fd, buffers, at):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    file = LocalFile(tmp_path / "file")
    file.put(0, b"first")
    monkeypatch.setattr(os, "preadv", preadv)

    def confirm_and_close() -> None:
        try:
            file.confirm()
        finally:
            file.close()

    with pytest.raises(phypan.OutputError, match="Input/output error"):
        confirm_and_close()
