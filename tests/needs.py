"""What a test needs and may not find: a program, a dump of a real kernel."""

from __future__ import annotations

import os

import pytest

IN_CI = os.environ.get("PHYPAN_CI") == "1"


def missing(reason: str) -> None:
    """Skip the test; in CI, fail it."""
    if IN_CI:
        pytest.fail(f"CI must have it: {reason}", pytrace=False)
    pytest.skip(reason)
