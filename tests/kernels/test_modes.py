"""Which way the kernels run is asked of the environment, and where memory is scarce of nobody."""

from __future__ import annotations

import pytest

from phypan.errors import Unsupported
from phypan.kernels import modes


def test_what_is_lean_does_without_numba_unless_that_is_asked_for(monkeypatch) -> None:
    monkeypatch.delenv(modes.VARIABLE, raising=False)
    before = modes.mode()
    with modes.lean(), modes.lean():
        assert modes.mode() in ("numpy", "plain")
        monkeypatch.setenv(modes.VARIABLE, "plain")
        assert modes.mode() == "plain"
        monkeypatch.delenv(modes.VARIABLE)
    assert modes.mode() == before


def test_a_mode_that_there_is_not_is_refused(monkeypatch) -> None:
    monkeypatch.setenv(modes.VARIABLE, "fortran")
    with pytest.raises(Unsupported, match="PHYPAN_KERNELS=fortran"):
        modes.mode()
