"""Hundreds of points at which a capture is stopped: nothing that is not safe is ever freed."""

from __future__ import annotations

import errno

import pytest

from tests.needs import missing
from tests.rescue import rig as rescue_rig
from tests.rescue import tracing
from tests.rescue.rig import World, assert_all_is_well

GONE = "no dump is waiting"
PARTS = 4


def go_on(world: World, whole) -> None:
    """What is left to do after any fault: the same command with --resume."""
    outcome = world.capture(resume=True)
    assert outcome.error is None or GONE in outcome.error, outcome.error
    assert_all_is_well(world, whole)


@pytest.mark.parametrize("part", range(PARTS))
def test_sigkill_before_any_system_call(crashed, uninterrupted, part) -> None:
    """Killed by the kernel, before calls all over: reads, locks and mappings too."""
    if why := tracing.forbidden():
        missing(why)
    with rescue_rig.world(crashed) as world:
        calls = world.capture(traced=True).calls
    assert calls > 600
    killed = 0
    for number in range(part, calls, PARTS * (calls // 240)):
        with rescue_rig.world(crashed) as world:
            first = world.capture(traced=True, kill_at=number)
            killed += first.code == -9
            assert world.unsaved == 0, number
            go_on(world, uninterrupted[0])
    assert killed > 40


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_from_some_call_on_all_that_changes_something_fails(crashed, uninterrupted, number) -> None:
    """A full disk, one that fails, one that the kernel has made read-only."""
    file, calls = uninterrupted
    told = 0
    for at in range(number % 3, calls, 3):
        with rescue_rig.world(crashed) as world:
            outcome = world.capture(kill_at=at, fail=number)
            assert outcome.code in (0, 1), (at, outcome)
            assert outcome.error is None or "Traceback" not in outcome.error, outcome.error
            assert world.unsaved == 0, at
            told += outcome.error is not None
            go_on(world, file)
    assert told > calls // 3 * 2 // 3


def test_a_journal_with_a_changed_byte_is_refused_wherever_that_is(crashed, uninterrupted) -> None:
    with rescue_rig.world(crashed) as world:
        world.capture(releases=2)
        journal = world.target.with_name("vmcore.journal")
        sound, freed = journal.read_bytes(), world.freed
        assert 0 < freed < world.boot.reserve_size
        for at in range(0, len(sound) - 1, len(sound) // 100):
            journal.write_bytes(sound[:at] + bytes([sound[at] ^ 0x10]) + sound[at + 1 :])
            outcome = world.capture(resume=True)
            assert "is damaged" in outcome.error, (at, outcome)
            assert world.freed == freed
            for options in ({}, {"force": True}):
                assert world.capture(**options).error is not None
            assert world.freed == freed
        journal.write_bytes(sound)
        go_on(world, uninterrupted[0])


def test_a_journal_that_forgot_its_last_lines_takes_no_freed_memory_for_dump(
    crashed, uninterrupted
) -> None:
    """A disk that lies about fsync: what the page flags say was freed is never read."""
    lost = 0
    for back in range(1, 6):
        with rescue_rig.world(crashed) as world:
            world.capture(releases=2)
            journal = world.target.with_name("vmcore.journal")
            lines = journal.read_bytes().splitlines(keepends=True)
            journal.write_bytes(b"".join(lines[: max(1, len(lines) - back)]))
            outcome = world.capture(resume=True)
            if outcome.error is not None:  # it forgot that it had given the file its name
                assert "is the whole dump" in outcome.hint
                assert rescue_rig.content(world.target) == uninterrupted[0]
                continue
            named = sum(entry.size for entry in outcome.result.lost)
            whole, saved = uninterrupted[0], rescue_rig.content(world.target)
            assert (saved == whole) == (not named)
            lost += named > 0
            there, blocks = dict(saved[1]), dict(whole[1])
            for at in (blocks.keys() | there.keys()) - {0}:  # the head says that it is incomplete
                differs = there.get(at) != blocks.get(at)
                behind = at + rescue_rig.BLOCK > whole[0]  # there it is told what is lost
                bad = differs and not behind
                assert not bad or any(
                    entry.at < at + rescue_rig.BLOCK and at < entry.at + entry.size
                    for entry in outcome.result.lost
                ), f"{at:#x} is not what it was, and not named"
    assert lost


def test_another_capture_that_is_started_meanwhile_is_refused(crashed, uninterrupted) -> None:
    with rescue_rig.world(crashed) as world:
        asked, said = world.asked, []
        others = ({}, {"resume": True}, {"force": True},
                  {"target": world.target.with_name("another")})  # fmt: skip

        def meanwhile(name: str, data: bytes) -> int:
            if len(said) < len(others):
                freed = world.freed
                said.append(world.capture(**others[len(said)]).error)
                assert world.freed == freed
            return asked(name, data)

        world.asked = meanwhile
        outcome = world.capture()
        assert outcome.error is None
        assert all("another capture" in error for error in said), said
        assert len(said) == len(others)
        assert_all_is_well(world, uninterrupted[0])
