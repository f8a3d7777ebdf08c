"""Whole reads and writes, and what a system may lack."""

from __future__ import annotations

import errno
import os

from phypan import descriptors


def test_a_kernel_without_advice_is_no_error(tmp_path, monkeypatch) -> None:
    """CONFIG_ADVISE_SYSCALLS may be off, in kernels that are to be small."""

    def no_such_call(*args: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    with (tmp_path / "file").open("w+b", buffering=0) as file:
        file.write(b"bytes")
        descriptors.drop_cached(file.fileno())
        assert os.pread(file.fileno(), 5, 0) == b"bytes"
        monkeypatch.setattr(os, "posix_fadvise", no_such_call)
        descriptors.drop_cached(file.fileno(), 0, 5)
        assert os.pread(file.fileno(), 5, 0) == b"bytes"
