"""A partition that crashed, and what an undisturbed capture makes of it."""

from __future__ import annotations

import pytest

import phypan
from tests.rescue import rig as rescue_rig


def simulated(**more):
    return phypan.simulate(kernel="2.6.32", memory="640M", page_size=4096, cpus=3, **more)


@pytest.fixture(scope="session")
def crashed():
    return simulated()


@pytest.fixture
def world(crashed):
    with rescue_rig.world(crashed) as made:
        yield made


@pytest.fixture(scope="session")
def uninterrupted(crashed):
    """(what a capture that nothing disturbs makes, how many calls that takes)."""
    with rescue_rig.world(crashed) as made:
        outcome = made.capture()
        assert outcome.error is None, outcome.error
        return rescue_rig.content(made.target), outcome.calls


@pytest.fixture(scope="session")
def uninterrupted_compressed(crashed):
    """The same of a compressed capture."""
    with rescue_rig.world(crashed) as made:
        outcome = made.capture(compress="zlib", window=1 << 20)
        assert outcome.error is None, outcome.error
        return rescue_rig.content(made.target), outcome.calls
