"""A capture in makedumpfile's format: it gives memory back as it goes, and is stopped anywhere.

The model counts what was given back and was neither in the target nor left out on the user's wish.
"""

from __future__ import annotations

import errno
import os
import subprocess
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import phypan
from phypan.filtering import levels
from phypan.rescue import sending
from tests import real_dumps
from tests.made_dumps import same_memory
from tests.needs import missing
from tests.platform_model.test_simulation import assert_memory_is_what_it_was
from tests.rescue import rig as rescue_rig
from tests.rescue import tracing
from tests.rescue.rig import World, assert_all_is_well
from tests.rescue.test_capture import full_disk, other_bytes, unreadable

GONE = "no dump is waiting"
SMALL = {"compress": "zlib", "window": 1 << 20}  # it gives back often
PARTS = 2


@pytest.fixture
def whole(uninterrupted_compressed):
    return uninterrupted_compressed[0]


@pytest.mark.parametrize("codec", ["zlib", "lzo", "snappy", "zstd", "none"])
def test_it_holds_the_memory_before_the_crash(world, crashed, codec) -> None:
    outcome = world.capture(compress=codec)
    assert outcome.error is None
    assert outcome.result.whole
    assert outcome.result.compressed
    assert outcome.result.released == world.boot.reserve_size
    with phypan.open(world.target) as dump:
        assert dump.format == "kdump"
        assert assert_memory_is_what_it_was(dump, crashed.before)
    assert_all_is_well(world, rescue_rig.content(world.target))


def test_it_is_byte_for_byte_what_convert_makes(world, whole, monkeypatch) -> None:
    """So it does not matter where the capture was stopped, or how many threads there were."""
    with phypan.open(world.root, source="live") as dump:
        phypan.convert(dump, world.folder / "converted", format="kdump", num_threads=3)
    assert rescue_rig.content(world.folder / "converted") == whole
    assert world.capture(compress="zlib", num_threads=1).error is None
    assert_all_is_well(world, whole)


# -- stopped ---------------------------------------------------------------------------------------


def go_on(world: World, whole, **more) -> None:
    outcome = world.capture(resume=True, **SMALL, **more)
    assert outcome.error is None or GONE in outcome.error, outcome.error
    assert_all_is_well(world, whole)


def points(calls: int, part: int, count: int = 30) -> list[int]:
    """Some of the calls, for this part of a test; of the first and last ones more."""
    step = max(1, calls // count)
    return sorted({*range(0, 20, 5), *range(0, calls, step), *range(calls - 20, calls, 4)})[
        part::PARTS
    ]


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_before_any_call_that_changes_something(
    crashed, uninterrupted_compressed, part
) -> None:
    file, calls = uninterrupted_compressed
    on_the_way = 0
    for number in points(calls, part):
        with rescue_rig.world(crashed) as world:
            world.capture(kill_at=number, **SMALL)
            assert world.unsaved == 0, number
            on_the_way += world.freed > 0 and not world.target.exists()
            go_on(world, file)
    assert on_the_way > 3, "memory is given back before the file is whole"


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_in_the_middle_of_a_write_twice(crashed, uninterrupted_compressed, part) -> None:
    file, calls = uninterrupted_compressed
    for number in points(calls, part, 15):
        with rescue_rig.world(crashed) as world:
            world.capture(kill_at=number, torn=True, **SMALL)
            world.capture(resume=True, kill_at=number // 2, torn=True, **SMALL)
            go_on(world, file)


@pytest.mark.parametrize("part", range(PARTS))
def test_the_power_goes_and_what_was_not_durable_with_it(
    crashed, uninterrupted_compressed, part
) -> None:
    file, calls = uninterrupted_compressed
    for number in points(calls, part, 15):
        with rescue_rig.world(crashed) as world:
            first = world.capture(kill_at=number, power=number, **SMALL)
            if first.code == 9 and world.boot.hypervisor.active is not None:
                go_on(world, file)


@pytest.mark.parametrize("part", range(PARTS))
def test_sigkill_before_any_system_call(crashed, whole, part) -> None:
    if why := tracing.forbidden():
        missing(why)
    with rescue_rig.world(crashed) as world:
        calls = world.capture(traced=True, **SMALL).calls
    killed = 0
    for number in range(part, calls, PARTS * (calls // 24)):
        with rescue_rig.world(crashed) as world:
            killed += world.capture(traced=True, kill_at=number, **SMALL).code == -9
            assert world.unsaved == 0, number
            go_on(world, whole)
    assert killed > 6


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_from_some_call_on_all_that_changes_something_fails(
    crashed, uninterrupted_compressed, number
) -> None:
    file, calls = uninterrupted_compressed
    told = 0
    for at in range(number % 3, calls, calls // 12):
        with rescue_rig.world(crashed) as world:
            outcome = world.capture(kill_at=at, fail=number, **SMALL)
            assert outcome.code in (0, 1), (at, outcome)
            assert outcome.error is None or "Traceback" not in outcome.error, outcome.error
            assert world.unsaved == 0, at
            told += outcome.error is not None
            go_on(world, file)
    assert told > 6


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.booleans(), st.sampled_from([1 << 19, 1 << 20, 1 << 26]),
                  st.integers(1, 3)),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_stopped_again_and_again_it_becomes_the_same_file(
    crashed, uninterrupted_compressed, stops
) -> None:
    file, calls = uninterrupted_compressed
    with rescue_rig.world(crashed) as world:
        for share, torn, window, threads in stops:
            more = {"compress": "zlib", "window": window, "num_threads": threads}
            world.capture(resume=True, kill_at=int(share * calls), torn=torn, **more)
            assert world.unsaved == 0
        go_on(world, file)


def test_a_capture_with_another_codec_library_puts_its_pages_behind_what_is_safe(
    crashed, uninterrupted_compressed
) -> None:
    """As after an update between two boots: what a file with offsets has is just written over."""
    file, calls = uninterrupted_compressed

    def other() -> None:
        os.environ["PHYPAN_KERNELS"] = "plain"

    with rescue_rig.world(crashed) as world:
        assert world.capture(kill_at=calls // 2, **SMALL).code == 9
        go_on(world, file, patch=other)


# -- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [100, 100_000, 1 << 20, 2 << 20])
def test_a_full_disk_stops_it_and_more_room_lets_it_go_on(world, whole, left) -> None:
    outcome = world.capture(patch=full_disk(left), **SMALL)
    assert outcome.code == 1
    assert "No space left on device" in outcome.error
    assert world.unsaved == 0
    assert world.capture(resume=True, **SMALL).error is None
    assert_all_is_well(world, whole)


def test_a_disk_that_gives_back_other_bytes_frees_nothing(world) -> None:
    outcome = world.capture(compress="zlib", patch=other_bytes)
    assert "read back are not what was written" in outcome.error
    assert world.freed == 0
    assert not world.target.exists()


def test_a_plan_that_was_damaged_or_lost_is_refused(world, uninterrupted_compressed) -> None:
    world.capture(kill_at=uninterrupted_compressed[1] // 2, **SMALL)
    plan = world.target.with_name("vmcore.journal.plan0")
    sound, freed = plan.read_bytes(), world.freed
    plan.write_bytes(sound[:100] + bytes([sound[100] ^ 1]) + sound[101:])
    assert "is damaged" in world.capture(resume=True, **SMALL).error
    plan.unlink()
    assert "No such file" in world.capture(resume=True, **SMALL).error
    assert world.freed == freed
    plan.write_bytes(sound)
    go_on(world, uninterrupted_compressed[0])


@pytest.fixture
def bad(world, crashed) -> tuple[int, int]:
    """A page of low memory that holds something: (its old address, where its copy is)."""
    used = 16 << 20
    while not crashed.before.read(used, 4096).strip(b"\0"):
        used += 4096
    return used, world.boot.layout.copy + used


def test_memory_that_cannot_be_read_is_a_hole_in_the_dump_and_named(world, crashed, bad) -> None:
    start, copied = bad
    outcome = world.capture(patch=unreadable(copied, copied + 1), **SMALL)
    assert outcome.error is None
    (lost,) = outcome.result.lost
    assert (lost.at, lost.size) == (start, 4096)
    assert "Input/output error" in lost.why
    assert world.unsaved == 4096, "but for that, all is there"
    with phypan.open(world.target) as dump:
        hole = dump.memory.at(start)
        assert (hole.start, hole.size, hole.state) == (start, 4096, phypan.PageState.DAMAGED)
        assert dump.incomplete
        assert not [p for p in dump.problems if "checksum" in p.what], "it is sealed anew"
        for at in (start - 4096, start + 4096):
            assert dump.memory.read(at, 4096) == crashed.before.read(at, 4096)
    assert world.boot.rounds == 1


@pytest.mark.parametrize("part", range(PARTS))
def test_what_was_lost_before_a_kill_is_told_after_it(crashed, bad, part) -> None:
    """And the file is what it would have been; the head says that it is incomplete."""
    fault = unreadable(bad[1], bad[1] + 4096)
    with rescue_rig.world(crashed, "again") as other:  # of that name: it is in the file
        calls = other.capture(patch=fault, **SMALL).calls
        whole = rescue_rig.content(other.target)
    for number in points(calls, part, 12):
        with rescue_rig.world(crashed, "again") as other:
            first = other.capture(patch=fault, kill_at=number, **SMALL)
            outcome = other.capture(patch=fault, resume=True, **SMALL)
            if first.code == 9 and not (outcome.error and GONE in outcome.error):
                assert outcome.error is None, (number, outcome.error)
                assert [(e.at, e.size) for e in outcome.result.lost] == [(bad[0], 4096)]
            assert rescue_rig.content(other.target) == whole


def test_what_could_not_be_read_before_a_kill_and_can_be_after_it_is_not_lost(
    crashed, whole
) -> None:
    """So the head says again that all is there, where it said already that something is not."""
    *_, (last, _) = crashed.before.chunks(0, 640 << 20)
    fault = unreadable(last, last + 4096)
    more = {"compress": "zlib", "window": 360 << 20}  # certain is what is below it, not the rest
    with rescue_rig.world(crashed) as world:
        calls = world.capture(patch=fault, **more).calls
    heads = set()
    for number in range(calls - 70, calls - 10, 2):
        with rescue_rig.world(crashed) as world:
            first = world.capture(patch=fault, kill_at=number, **more)
            unfinished = world.target.with_name("vmcore.incomplete")
            if first.code != 9 or not unfinished.exists():
                continue
            with unfinished.open("rb") as file:
                head = file.read(464)
            outcome = world.capture(resume=True)
            assert outcome.error is None
            if outcome.result.whole:
                heads.add(head)
                assert_all_is_well(world, whole)
    assert len(heads) == 2


def test_a_dump_that_is_gone_half_way_is_named_from_there_on(
    crashed, uninterrupted_compressed
) -> None:
    closed = 0
    for number in points(uninterrupted_compressed[1], 0, 8)[3:]:
        with rescue_rig.world(crashed) as world:
            killed = world.capture(kill_at=number, release=False, **SMALL).code == 9
            if not killed or not world.target.with_name("vmcore.journal").exists():
                continue  # it had ended before, or had nothing more to do
            for name in ("proc/vmcore", "sys/kernel/release_region"):
                (world.root / name).unlink()
            outcome = world.capture(resume=True, **SMALL)
            if not world.target.exists():
                assert "nothing of it was saved" in outcome.error
                continue
            assert outcome.error is None
            if outcome.result.whole:
                continue
            (lost,) = outcome.result.lost
            closed += 1
            with phypan.open(world.target) as dump:
                assert dump.incomplete
                assert dump.memory.at(lost.at).state is phypan.PageState.DAMAGED
                for at, data in crashed.before.chunks(0, lost.at):
                    assert dump.memory.read(at, len(data[: lost.at - at])) == data[: lost.at - at]
    assert closed


def test_a_dump_of_fadump_is_gone_on_with_too(monkeypatch) -> None:
    """All of it is given back at once, at the end; what was saved is not saved again."""
    fadump = phypan.simulate(kernel="5.10", memory="1G", cpus=3)
    with rescue_rig.world(fadump) as world:
        calls = world.capture(release=True, **SMALL).calls
        whole = rescue_rig.content(world.target)
        assert world.unsaved == 0
        with phypan.open(world.target) as dump:
            assert assert_memory_is_what_it_was(dump, fadump.before)
    behind = 0
    for number in range(10, calls, calls // 8):
        with rescue_rig.world(fadump) as world:
            first = world.capture(release=True, kill_at=number, **SMALL)
            journal = world.target.with_name("vmcore.journal")
            behind += journal.exists() and b'"state"' in journal.read_bytes()
            outcome = world.capture(release=True, resume=True, **SMALL)
            if first.code == 9 and not (outcome.error and GONE in outcome.error):
                assert outcome.error is None, (number, outcome.error)
            assert world.unsaved == 0
            assert rescue_rig.content(world.target) == whole
            assert world.boot.rounds == 1
    assert behind > 2


# -- dump levels -----------------------------------------------------------------------------------

CACHE = 2 << 20 >> 12  # page frames that are of one kind, in turns: what the model's kernel lacks


class Kinds:
    """In place of struct pages, which the model has not: user pages and others in turns."""

    problems = ()
    known = True

    def __init__(self, dump: phypan.Dump) -> None:
        self._frames = dump.memory.end // 4096

    def __iter__(self):
        for first in range(0, self._frames, CACHE):
            user = first // CACHE % 2
            yield first, bytes([USER if user else KERNEL]) * min(CACHE, self._frames - first)


KERNEL, USER = (
    next(code for code in range(256) if levels.page_type(code).name == name)
    for name in ("kernel", "user")
)


def with_kinds() -> None:
    levels.PageTypes = Kinds


def without_struct_pages() -> None:
    def gone(dump):
        raise AssertionError("struct pages were given back: nobody may ask them again")

    levels.PageTypes = gone


def test_what_the_level_leaves_out_counts_as_dealt_with(crashed) -> None:
    """It may be given back, and nothing else; which pages these are is asked only once."""
    more = {"dump_level": 8, **SMALL}
    left_out = frozenset(pfn for pfn in range((640 << 20) // 4096) if pfn // CACHE % 2)
    with rescue_rig.world(crashed) as world:
        assert world.capture(patch=with_kinds, **more).error is None
        assert world.unsaved > 0, "it is not there, so the model complains unless it is told"
    with rescue_rig.world(crashed) as world:
        world.left_out = left_out
        calls = world.capture(patch=with_kinds, **more).calls
        whole = rescue_rig.content(world.target)
        assert_all_is_well(world, whole)
        with phypan.open(world.target) as dump:
            for at, data in crashed.before.chunks(0, dump.memory.end):
                state, _ = dump.memory.state(at)
                assert (state is phypan.PageState.EXCLUDED) == (at // 4096 in left_out)
                if state is not phypan.PageState.EXCLUDED:
                    assert dump.memory.read(at, len(data)) == data
    for number in range(12, calls, calls // 10):
        with rescue_rig.world(crashed) as world:
            world.left_out = left_out
            first = world.capture(patch=with_kinds, kill_at=number, **more)
            begun = world.target.with_name("vmcore.journal")
            again = without_struct_pages if begun.exists() and begun.stat().st_size else with_kinds
            if first.code == 9 and world.boot.hypervisor.active is not None:
                outcome = world.capture(patch=again, resume=True, **more)
                assert outcome.error is None, (number, outcome.error)
                assert_all_is_well(world, whole)


def test_without_room_at_one_level_it_is_tried_at_the_next(crashed) -> None:
    """Of several levels nothing is given back before one has made a file."""

    def patched() -> None:
        with_kinds()
        real = os.pwrite

        def pwrite(fd, data, at):
            held = os.readlink(f"/proc/self/fd/{fd}")
            if held.endswith("vmcore.incomplete") and at > 2_400_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, data, at)

        os.pwrite = pwrite

    with rescue_rig.world(crashed) as world:
        world.left_out = frozenset(range((640 << 20) // 4096))
        outcome = world.capture(patch=patched, dump_level=(0, 8), **SMALL)
        assert outcome.error is None
        with phypan.open(world.target) as dump:
            assert dump.dump_level == 8
        assert_all_is_well(world, rescue_rig.content(world.target))
        assert 0 < world.target.stat().st_size < 2_400_000


# -- writers of strangers --------------------------------------------------------------------------


def test_a_writer_without_a_plan_is_captured_too_and_gives_back_at_the_end(crashed) -> None:
    from phypan import api

    def stranger() -> None:
        kdump = api.writers()["kdump"]
        api.registry()._shelf("writers")["plain"] = replace(kdump, name="plain", plan=None)

    more = {"format": "plain", "window": 1 << 20, "patch": stranger}
    with rescue_rig.world(crashed) as world:
        calls = world.capture(**more).calls
        whole = rescue_rig.content(world.target)
        assert_all_is_well(world, whole)
    for number in range(10, calls, calls // 12):
        with rescue_rig.world(crashed) as world:
            first = world.capture(kill_at=number, **more)
            assert not world.freed or world.target.exists(), "nothing is given back before"
            outcome = world.capture(resume=True, **more)
            if first.code == 9 and not (outcome.error and GONE in outcome.error):
                assert outcome.error is None, (number, outcome.error)
            assert_all_is_well(world, whole)


@pytest.mark.parametrize(
    ("format", "option"),
    [("kdump", "keep_incomplete"), ("kdump", "part"), ("kdump", "no_such"), ("elf", "compress")],
)
def test_options_that_make_no_whole_file_are_refused(world, format, option) -> None:
    outcome = world.capture(format=format, **{option: True})
    assert outcome.code == 1
    assert "capture is whole" in outcome.error or "has no option" in outcome.error
    assert not list(world.target.parent.iterdir())


# -- a stream that is made again -------------------------------------------------------------------


class Kept:
    """A Stream that can be cut anywhere."""

    name = "stream"

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    def append(self, *parts) -> None:
        for part in parts:
            self.data += part

    def confirm(self) -> int:
        return len(self.data)

    def state(self):
        return {}

    def finish(self) -> None:
        self.data += b"."

    def close(self) -> None:
        pass


RECORDS = st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=9)), min_size=1)


@given(RECORDS, st.data())
def test_what_a_stream_has_is_compared_and_not_sent_again(records, data) -> None:
    """Cut anywhere, it becomes the same stream; different, what was written last counts."""
    from phypan import BytesStore
    from phypan.plugins.sources.flattened import FlattenedStore

    def send(to: sending.ToStream, what) -> None:
        at = to._end
        for gap, content in what:
            to.write_at(at + gap, content)
            at += gap + len(content)
        to.finish(at)

    def write(to: sending.ToStream, what) -> list[sending.Mark]:
        marks, at = [to.mark()], 0
        for gap, content in what:
            to.write_at(at + gap, content)
            at += gap + len(content)
            marks.append(to.mark())
        return marks

    first = Kept()
    to = sending.ToStream(first, {}, kept=True)
    marks = write(to, records)
    to.finish(to._end)
    whole = bytes(first.data)

    number = data.draw(st.integers(0, len(records)), label="mark")
    mark = marks[number]
    cut = data.draw(st.integers(max(mark.number, 4096), marks[-1].number), label="cut")
    begun = next(((at, size, where) for (at, size, where) in placed(records, marks)
                  if where < cut < where + 16 + size), None)  # fmt: skip
    import zlib

    place = {
        "sent": cut, "mark": mark.number, "end": mark.end, "record": begun, "again": False,
        "crc": [mark.crc, zlib.crc32(whole[:cut])],
    }  # fmt: skip
    second = Kept(whole[:cut])
    to = sending.ToStream(second, place, kept=True)
    send(to, records[number:])
    assert bytes(second.data) == whole
    assert not to.again

    changed = [(gap, bytes(255 - byte for byte in content)) for gap, content in records[number:]]
    third = Kept(whole[:cut])
    to = sending.ToStream(third, place, kept=True)
    heads = mark.number + 16  # of the first record: these are the same
    if cut > heads:
        with pytest.raises(sending.Differs):
            send(to, changed)
        to.put_again()
        assert to.again
    send(to, changed)
    held = FlattenedStore(BytesStore(bytes(third.data[:-1])))
    expected = bytearray(held.size)
    at = 0
    for gap, content in [*records[:number], *changed]:
        expected[at + gap : at + gap + len(content)] = content
        at += gap + len(content)
    assert bytes(held.view(0, held.size)) == bytes(expected)


def placed(records, marks):
    """(file offset, size, position in the stream) of each record."""
    at = 0
    for (gap, content), mark in zip(records, marks, strict=False):
        yield at + gap, len(content), mark.number
        at += gap + len(content)


@pytest.mark.real
@pytest.mark.parametrize("words", [("-z", "-d", "31"), ("-d", "17"), ("-E", "-d", "31")])
def test_letters_mean_what_they_mean_to_convert(
    real_dump, vmcores, phypan_command, tmp_path, monkeypatch, words
) -> None:
    """On the files of a real fadump kernel's second boot."""
    monkeypatch.setenv("PHYPAN_RUN", str(tmp_path / "run"))
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (root / "sys/kernel/fadump").mkdir(parents=True)
    (root / "sys/kernel/fadump/release_mem").write_bytes(b"")
    # A copy: a capture wants it alone, and other tests read that one at the same time.
    kernels = vmcores(real_dump(real_dumps.NAMES[0])).kernels
    subprocess.run(["cp", "--sparse=always", kernels, root / "proc/vmcore"], check=True)
    done = phypan_command("capture", *words, "--root", root, tmp_path / "captured", "--release")
    assert done.code == 0, done.err
    assert (root / "sys/kernel/fadump/release_mem").read_bytes() == b"1\n"
    done = phypan_command("convert", *words, root / "proc/vmcore", tmp_path / "converted")
    assert done.code == 0, done.err
    with phypan.open(tmp_path / "captured") as one, phypan.open(tmp_path / "converted") as two:
        assert one.format == two.format == ("elf" if "-E" in words else "kdump")
        assert one.dump_level == two.dump_level
        same_memory(one.memory, two.memory)
