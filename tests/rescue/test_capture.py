"""A capture may be stopped at any instant: the next one makes of it what it would have been.

The model counts what was given back and was not in the target: always nothing.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import redirect_stdout
from unittest.mock import patch

import pytest

import phypan
from phypan import LiveStore
from phypan.cli import main
from phypan.formats.release_region import Pair
from phypan.platform.faults import Fault
from tests.platform_model.test_simulation import assert_memory_is_what_it_was
from tests.rescue import rig as rescue_rig
from tests.rescue.rig import World, assert_all_is_well

GONE = "no dump is waiting"


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
    assert_all_is_well(world, rescue_rig.content(world.target))


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

PARTS = 4


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


# -- faults ----------------------------------------------------------------------------------------


def full_disk(left: int):
    """A patch: so many bytes can be written, then the disk is full."""

    def install() -> None:
        real, room = os.pwrite, [left]

        def pwrite(fd, data, at):
            if room[0] < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            room[0] -= len(data)
            return real(fd, data, at)

        os.pwrite = pwrite

    return install


@pytest.mark.parametrize("left", [100, 70_000, 300_000, 1 << 20, 2 << 20])
def test_a_full_disk_stops_it_and_more_room_lets_it_go_on(
    world, crashed, uninterrupted, left
) -> None:
    outcome = world.capture(patch=full_disk(left))
    assert outcome.code == 1
    assert "No space left on device" in outcome.error
    assert world.unsaved == 0
    more = world.capture(resume=left > 100)
    assert more.error is None
    assert_all_is_well(world, uninterrupted[0])


def other_bytes() -> None:
    """A patch: what was written to the disk reads back as zeros."""
    real = os.preadv

    def preadv(fd, buffers, at):
        count = real(fd, buffers, at)
        if os.readlink(f"/proc/self/fd/{fd}").endswith("vmcore.incomplete"):
            buffers[0][:count] = bytes(count)
        return count

    os.preadv = preadv


def test_a_disk_that_gives_back_other_bytes_frees_nothing(world) -> None:
    outcome = world.capture(patch=other_bytes)
    assert "read back are not what was written" in outcome.error
    assert world.freed == 0
    assert not world.target.exists()


def unreadable(start: int, end: int):
    """A patch: reading these physical addresses of /proc/vmcore is an I/O error."""

    def install() -> None:
        real = os.preadv

        def preadv(fd, buffers, at):
            meant = os.readlink(f"/proc/self/fd/{fd}").endswith("proc/vmcore")
            if meant and at < end and at + len(buffers[0]) > start:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(fd, buffers, at)

        os.preadv = preadv

    return install


@pytest.fixture
def bad(world, crashed) -> tuple[int, int]:
    """A page of low memory: (its old address, where its copy is, which cannot be read)."""
    used = 16 << 20  # physical address of a byte that is not zero
    while not (data := crashed.before.read(used, 4096).lstrip(b"\0")):
        used += 4096
    used += 4096 - len(data)
    page = (world.boot.layout.copy + used) // 4096 * 4096
    return page - world.boot.layout.copy, page


def test_memory_that_cannot_be_read_is_a_hole_in_the_dump_and_named(world, crashed, bad) -> None:
    start, copied = bad
    outcome = world.capture(patch=unreadable(copied, copied + 4096))
    assert outcome.error is None
    (lost,) = outcome.result.lost
    assert lost.size == 4096
    assert "Input/output error" in lost.why
    with phypan.open(world.target) as dump:
        hole = dump.memory.at(start)
        assert (hole.start, hole.size, hole.state) == (start, 4096, phypan.PageState.DAMAGED)
        assert dump.incomplete
        for at in (start - 4096, start + 4096):
            assert dump.memory.read(at, 4096) == crashed.before.read(at, 4096)
        with pytest.raises(phypan.NotInDump, match="Input/output error"):
            dump.memory.read(start + 4095, 1)
    assert world.boot.rounds == 1


@pytest.mark.parametrize("part", range(2))
def test_what_was_lost_before_a_kill_is_told_after_it(crashed, bad, part) -> None:
    fault = unreadable(bad[1], bad[1] + 4096)
    with rescue_rig.world(crashed, "again") as other:  # of that name: it is in the file
        calls = other.capture(patch=fault).calls
        whole = rescue_rig.content(other.target)
    # Each of the last: they change the head, say what was lost, and give it its name.
    for number in sorted({*range(20, calls, 15), *range(calls - 45, calls)})[part::2]:
        with rescue_rig.world(crashed, "again") as other:
            first = other.capture(patch=fault, kill_at=number)
            outcome = other.capture(patch=fault, resume=True)
            if first.code == 9 and not (outcome.error and GONE in outcome.error):
                assert outcome.error is None, (number, outcome.error)
                assert len(outcome.result.lost) == 1
            assert rescue_rig.content(other.target) == whole


def test_what_could_not_be_read_before_a_kill_and_can_be_after_it_is_not_lost(
    crashed, uninterrupted
) -> None:
    """So the head says again that all is there, where it said already that something is not."""
    *_, (last, _) = crashed.before.chunks(0, 640 << 20)
    fault = unreadable(last, last + 4096)
    with rescue_rig.world(crashed) as world:
        calls = world.capture(patch=fault).calls
    heads: set[bytes] = set()
    for number in range(calls - 15, calls // 2, -1):  # the head is written again near the end
        if len(heads) == 2:
            break
        with rescue_rig.world(crashed) as world:
            first = world.capture(patch=fault, kill_at=number)
            unfinished = world.target.with_name("vmcore.incomplete")
            if first.code != 9 or not unfinished.exists():
                continue
            with unfinished.open("rb") as file:
                head = file.read(64)
            outcome = world.capture(resume=True)
            assert outcome.error is None
            if outcome.result.whole:
                heads.add(head)
                assert_all_is_well(world, uninterrupted[0])
    assert len(heads) == 2


def test_a_kernel_that_refuses_to_take_memory_back_does_not_harm_the_dump(
    world, uninterrupted
) -> None:
    world.asked = lambda name, data: errno.EINVAL
    outcome = world.capture()
    assert outcome.error is None
    assert "memory stays reserved" in outcome.result.problems[-1].meaning
    assert rescue_rig.content(world.target) == uninterrupted[0]


def test_the_journal_of_a_stopped_capture_must_be_whole(world, uninterrupted) -> None:
    world.capture(kill_at=uninterrupted[1] // 2)
    journal = world.target.with_name("vmcore.journal")
    data = bytearray(journal.read_bytes())
    data[60] ^= 1
    journal.write_bytes(data)
    freed = world.freed
    outcome = world.capture(resume=True)
    assert "is damaged" in outcome.error
    assert world.freed == freed


def test_a_stopped_capture_is_not_begun_anew_once_memory_was_given_back(
    world, uninterrupted
) -> None:
    world.capture(releases=2)
    assert 0 < world.freed < world.boot.reserve_size
    for options in ({}, {"force": True}, {"target": world.target.with_name("another")}):
        assert "--resume" in _hint_of(world, **options)
    assert world.capture(resume=True).error is None
    assert_all_is_well(world, uninterrupted[0])


def _hint_of(world: World, **options) -> str:
    outcome = world.capture(**options)
    assert outcome.error is not None
    assert "was stopped" in outcome.error or "another capture" in outcome.error
    return outcome.hint


def test_a_second_capture_meanwhile_is_refused(world) -> None:
    with LiveStore(world.root / "proc/vmcore") as store:
        store.lock()
        assert "another phypan reads it" in world.capture().error
    assert world.freed == 0
    assert world.capture().error is None


def test_memory_is_not_given_back_when_nobody_wants_that(world, uninterrupted) -> None:
    outcome = world.capture(release=False)
    assert outcome.result.released == world.freed == 0
    assert rescue_rig.content(world.target) == uninterrupted[0]
    assert world.boot.rounds == 0


def test_without_page_flags_a_release_that_may_have_been_is_not_repeated(
    crashed, uninterrupted
) -> None:
    refused = 0
    for number in range(1, 5):  # it dies when the kernel has answered, and before it notes that
        with rescue_rig.world(crashed) as world:
            world.flags = False
            world.write()
            first = world.capture(releases=number)
            outcome = world.capture(resume=True)
            assert world.unsaved == 0
            if first.code == 9 and outcome.error is None:
                assert rescue_rig.content(world.target) == uninterrupted[0]
                refused += any("nobody knows" in p.what for p in outcome.result.problems)
            assert sum(size for _, size in world.boot.released) <= world.boot.reserve_size + 65536
    assert refused


# -- fadump ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["5.10", "6.12"])
def fadump(request):
    return phypan.simulate(kernel=request.param, memory="1G", cpus=3)


def may_register(world: World) -> bool:
    """Whether the kernel still has the page with the next dump's header: 6.12 does not."""
    return int((world.root / "sys/kernel/fadump/mem_reserved").read_text()) % 4096 == 0


def test_a_dump_of_fadump_is_saved_and_given_back_at_once_when_asked(fadump) -> None:
    with rescue_rig.world(fadump) as world:
        outcome = world.capture(release=True)
        assert outcome.error is None
        assert outcome.result.whole
        assert world.unsaved == 0
        with phypan.open(world.target) as dump:
            assert assert_memory_is_what_it_was(dump, fadump.before)
        assert len(world.boot.released) == 1
        assert world.boot.rounds == may_register(world)
        assert may_register(world) == (outcome.result.problems == [])


def test_a_kernel_that_has_freed_the_next_dumps_header_is_not_asked_to_write_it() -> None:
    """It would write to somebody else's page, and lose that dump: seen with a real 6.12."""
    with rescue_rig.world(phypan.simulate(kernel="6.12", memory="1G", cpus=3)) as world:
        outcome = world.capture(release=True)
        assert outcome.result.whole
        (problem,) = outcome.result.problems
        assert "has freed the page that the next dump's header is kept in" in problem.what
        assert problem.meaning == "all was given back, and no crash is dumped before the next boot"
        assert (world.root / rescue_rig.REGISTERED).read_text() == "0\n"


@pytest.fixture(scope="module")
def older():
    return phypan.simulate(kernel="5.10", memory="1G", cpus=3)


@pytest.mark.parametrize("asked", [1, 2])
def test_stopped_between_the_release_and_registering_it_registers(older, asked) -> None:
    """Nobody else does: the kernel that frees a dump leaves that to who had it freed."""
    with rescue_rig.world(older) as world:
        assert world.capture(release=True, releases=asked).code == 9
        assert not (world.root / "proc/vmcore").exists()
        assert world.boot.rounds == asked - 1
        outcome = world.capture(resume=True)
        assert outcome.error is None
        assert outcome.result.problems == []
        assert outcome.result.whole
        assert world.boot.rounds == 1
        assert not world.target.with_name("vmcore.journal").exists()


def test_a_kernel_that_does_not_register_is_a_problem_and_the_dump_is_whole(older) -> None:
    with rescue_rig.world(older) as world:
        world.boot.hypervisor._faults = frozenset({Fault.REFUSED})
        outcome = world.capture(release=True)
        assert outcome.error is None
        assert outcome.result.whole
        (problem,) = outcome.result.problems
        assert "no crash is dumped before the next boot" in problem.meaning
        assert len(world.boot.released) == 1


def test_a_dump_of_fadump_is_kept_waiting_by_default(fadump) -> None:
    with rescue_rig.world(fadump) as world:
        assert world.capture().error is None
        assert world.boot.released == []


# -- the command line ------------------------------------------------------------------------------


def run(*words) -> tuple[int, str]:
    """(exit code, what is said on standard output) of the command line."""
    with (
        patch.object(sys, "argv", ["phypan", *map(str, words)]),
        redirect_stdout(io.StringIO()) as output,
    ):
        code = main()
    return code, output.getvalue()


def test_a_dry_run_tells_everything_and_changes_nothing(world) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.root.rglob("*")}
    code, output = run("capture", world.target, "--root", world.root, "--dry-run")
    assert code == 0
    assert not list(world.target.parent.iterdir())
    assert {path: path.stat().st_mtime_ns for path in world.root.rglob("*")} == before
    asked = [line.split()[1:] for line in output.splitlines() if line.startswith("release ")]
    assert sum(int(length, 16) for _, length in asked) == world.boot.reserve_size
    for start, length in asked:  # the kernel agrees: it registers anew at the end of it
        world.boot.release(Pair(int(start, 16), int(length, 16)))
    assert world.boot.rounds == 1


def test_status_and_exit_codes(world, tmp_path) -> None:
    code, output = run("status", "--root", world.root)
    assert (code, output.splitlines()[0]) == (0, "phyp dump waits")
    code, output = run("status", "--root", tmp_path)
    assert (code, output.splitlines()[0]) == (4, "no dump is waiting")
    assert run("capture", tmp_path / "vmcore", "--root", tmp_path)[0] == 4
    assert run("capture", world.target, "--root", world.root, "--no-release")[0] == 0
    assert run("capture", world.target, "--root", world.root, "--no-release")[0] == 1, "exists"
    assert run("capture")[0] == 2
