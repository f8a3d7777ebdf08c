"""A capture may be stopped at any instant: the next one makes of it what it would have been.

The model counts what was given back and was not in the target: always nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import phypan
from tests.platform_model.test_simulation import assert_memory_is_what_it_was
from tests.rescue import rig as rescue_rig
from tests.rescue.rig import World

GONE = "no dump is waiting"


def simulated(**more):
    return phypan.simulate(kernel="2.6.32", memory="640M", page_size=4096, cpus=3, **more)


@pytest.fixture(scope="module")
def crashed():
    return simulated()


@pytest.fixture
def world(crashed):
    with rescue_rig.world(crashed) as made:
        yield made


@pytest.fixture(scope="module")
def uninterrupted(crashed, tmp_path_factory):
    """(the file that a capture makes which nothing disturbs, how many calls that takes)."""
    with rescue_rig.world(crashed) as made:
        outcome = made.capture()
        assert outcome.error is None, outcome.error
        kept = tmp_path_factory.mktemp("uninterrupted") / "vmcore"
        shutil.copy(made.target, kept)
    return kept, outcome.calls


def assert_all_is_well(world: World, uninterrupted: Path) -> None:
    assert world.unsaved == 0
    assert rescue_rig.same(world.target, uninterrupted)
    assert world.boot.hypervisor.active is None, "the dump was invalidated"
    assert world.boot.hypervisor.registered is not None, "and another one registered"
    assert world.boot.rounds == 1
    freed = world.boot.reserve_size
    assert sum(end - start for start, end in world.boot._given) == freed, "all of it"
    left = {path.name for path in world.target.parent.iterdir()}
    assert left == {world.target.name}


def test_the_file_is_the_memory_before_the_crash(world, crashed) -> None:
    outcome = world.capture()
    assert outcome.error is None
    assert outcome.result.whole
    assert outcome.result.released == world.boot.reserve_size
    assert 0 < outcome.result.first < 60
    assert world.target.stat().st_mode & 0o777 == 0o600
    with phypan.open(world.target) as dump:
        assert assert_memory_is_what_it_was(dump, crashed.before)
        assert dump.memory.size == (640 << 20) - world.boot.scratch_size
        assert not dump.incomplete
        for cpu in dump.cpus:
            assert cpu.firmware == crashed.cpus[cpu.number]
    assert_all_is_well(world, world.target)


def test_it_is_what_convert_makes_of_the_same_memory(world, crashed, tmp_path) -> None:
    from phypan.platform import simulation

    simulation.save(crashed, tmp_path / "crashed", {})
    phypan.convert(tmp_path / "crashed", tmp_path / "vmcore")
    world.capture()
    with phypan.open(tmp_path / "vmcore") as one, phypan.open(world.target) as two:
        assert one.cpus == two.cpus
        assert one.raw.keys() - {0x50485006} == two.raw.keys() - {0x50485006}
        assert one.vmcoreinfo == two.vmcoreinfo
        pieces = [[(p.start, p.size) for p in d.memory.pieces(0, 640 << 20)] for d in (one, two)]
        assert pieces[0] == pieces[1]


# -- stopped ---------------------------------------------------------------------------------------

PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_before_any_call_that_changes_something(crashed, uninterrupted, part) -> None:
    file, calls = uninterrupted
    assert calls > 60
    for number in range(part, calls, PARTS):
        with rescue_rig.world(crashed) as world:
            first = world.capture(kill_at=number)
            second = world.capture(resume=True)
            if first.code == 9 and second.error and GONE in second.error:
                assert not list(world.target.parent.glob("*.journal")), "it was all done"
            elif first.code == 9:
                assert second.error is None, (number, second.error)
            assert_all_is_well(world, file)


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_in_the_middle_of_a_write_twice(crashed, uninterrupted, part) -> None:
    file, calls = uninterrupted
    for number in range(3 * part, calls, 3 * PARTS):
        with rescue_rig.world(crashed) as world:
            world.capture(kill_at=number, torn=True)
            world.capture(resume=True, kill_at=number // 2, torn=True)
            last = world.capture(resume=True)
            assert last.error is None or GONE in last.error, (number, last.error)
            assert_all_is_well(world, file)


@pytest.mark.parametrize("part", range(PARTS))
def test_the_power_goes_and_what_was_not_durable_with_it(crashed, uninterrupted, part) -> None:
    """The system boots again, holds everything back again, and counts from the start."""
    file, calls = uninterrupted
    for number in range(2 * part, calls, 2 * PARTS):
        with rescue_rig.world(crashed) as world:
            first = world.capture(kill_at=number, power=number)
            if first.code != 9 or world.boot.hypervisor.active is None:
                continue
            second = world.capture(resume=True)
            assert second.error is None, (number, second.error)
            assert_all_is_well(world, file)
