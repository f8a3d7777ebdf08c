"""locks: deadlocks of real kernels as their watchdog told of them, and made ones on real stacks."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phypan
from phypan.linux import lock_waiters, locks, stack, tasks
from tests.linux.test_hostile import damage, physical, run

drgn = pytest.importorskip("drgn")


def rows(dump: phypan.Dump) -> list:
    return list(phypan.run(dump, "locks"))


def test_a_deadlock_is_what_the_watchdog_said(kernel, truth_of) -> None:
    """The module takes two mutexes in two tasks; khungtaskd names the tasks and panics."""
    if "deadlock" not in kernel.source:
        pytest.skip("nothing waits for a lock")
    blocked = re.findall(r"INFO: task (\S+):(\d+) blocked for more", truth_of(kernel).first_boot)
    assert blocked
    found = {row.comm: row for row in rows(kernel)}
    assert set(found) == {"phypan_crash", "phypan_other"}
    assert {(row.comm, str(row.pid)) for row in found.values()} >= set(blocked)
    crash, other = found["phypan_crash"], found["phypan_other"]
    assert (crash.owner, other.owner) == (other.pid, crash.pid)
    assert (crash.kind, other.kind) == ("mutex", "mutex")
    names = [re.sub(r"\+0x0/.*", "", row.name) for row in (crash, other)]
    assert names == ["phypan_second", "phypan_first"]
    assert re.match(r"phypan_(deadlock|set)\+.*\[phypan_crash\]", crash.place)
    assert re.match(r"phypan_other_side\+.*\[phypan_crash\]", other.place)
    assert (crash.deadlock, other.deadlock) == (1, 1)
    said = list(phypan.analyses()["locks"].text(rows(kernel)))[-1]
    assert said.startswith("deadlock 1: ")
    assert said.count("phypan_") == 3


def test_nothing_is_found_where_nothing_waits(opened) -> None:
    known = len(opened.problems)
    assert rows(opened) == []
    assert opened.problems[known:] == []


# -- made on real stacks: two tasks that sleep get what they would have if they waited ------------


FUNCTIONS = {"mutex": "__mutex_lock", "rw_semaphore": "rwsem_down"}


class Made:
    """What to put where in a dump, so that two of its tasks wait for two locks."""

    def __init__(self, dump: phypan.Dump, kind: str = "mutex") -> None:
        self.dump, self.kind, self.words = dump, kind, {}
        found = {task.comm: task for task in tasks.each(dump)}
        self.one, self.two = found["phypan_alpha"], found["phypan_bravo"]
        self.function = next(
            s for s in dump.symbols
            if s.is_text and s.name.startswith(FUNCTIONS[kind])
        )  # fmt: skip

    def put(self, address: int, *values: int) -> None:
        for n, value in enumerate(values):
            data = (value % (1 << 64)).to_bytes(8, self.dump.byte_order)
            self.words[physical(address + 8 * n)] = data

    def offset(self, member: str) -> int:
        return drgn.offsetof(self.dump.program.type(f"struct {self.kind}"), member)

    def waits(self, task: tasks.Task, lock: int, owner: int, count: int = 0) -> int:
        """Have `task` wait for a lock at `lock`; the address of what is on its stack."""
        frames = stack.unwind(self.dump, task.task)
        index = next(n for n, f in enumerate(frames[3:-1], 3) if frames[n + 1].sp - f.sp >= 112)
        waiter = frames[index].sp + 48
        self.put(frames[index].sp + 16, self.function.address + 8)
        head = lock + self.offset("wait_list")
        self.put(waiter, head, head, int(task.task), 0)
        self.put(lock + self.offset("owner"), owner)
        if self.kind == "rw_semaphore":
            self.put(lock + self.offset("count"), count)
        self.put(head, waiter, waiter)
        return waiter

    def place(self, task: tasks.Task) -> int:
        """Room for a lock, where the stack of a task has not yet come to."""
        return int(task.task.stack) + 0x800


@pytest.fixture(params=["le-hash8", "be-radix9"])
def path(request, real_dump):
    return real_dump(request.param).path


@pytest.fixture
def whole(path):
    with phypan.open(path) as dump:
        yield dump


def test_two_tasks_that_wait_for_each_other(path, whole) -> None:
    made = Made(whole)
    first, second = made.place(made.one), made.place(made.two)
    made.waits(made.one, first, int(made.two.task) | 1)
    made.waits(made.two, second, int(made.one.task) | 5)
    with phypan.open(path) as dump:
        damage(dump, made.words)
        found = {row.pid: row for row in rows(dump)}
        assert set(found) == {made.one.pid, made.two.pid}
        row = found[made.one.pid]
        assert (row.lock, row.owner, row.mode, row.known_by) == (
            first, made.two.pid, "lock", "stack",
        )  # fmt: skip
        assert {row.deadlock for row in found.values()} == {1}
        assert dump.problems == []


def test_readers_hold_a_semaphore_that_a_writer_wants(path, whole) -> None:
    made = Made(whole, "rw_semaphore")
    lock = made.place(made.one)
    made.waits(made.one, lock, int(made.two.task) | 1, count=3 << 8 | 2)
    with phypan.open(path) as dump:
        damage(dump, made.words)
        (row,) = rows(dump)
        assert (row.kind, row.lock, row.owner) == ("rw_semaphore", lock, made.two.pid)
        assert (row.mode, row.readers, row.deadlock) == ("write", 3, None)
        text = "\n".join(phypan.analyses()["locks"].text([row]))
        assert "held by 3 readers" in text


def test_an_owner_that_is_no_task_is_shown_as_that(path, whole) -> None:
    made = Made(whole)
    made.waits(made.one, made.place(made.one), 0xC0000000DEADBEE8 | 1)
    with phypan.open(path) as dump:
        damage(dump, made.words)
        (row,) = rows(dump)
        assert (row.owner, row.owner_task) == (None, 0xC0000000DEADBEE8)
        assert "no task that is known" in "\n".join(phypan.analyses()["locks"].text([row]))


@pytest.mark.parametrize("seed", range(3))
def test_damaged_lists_of_waiters_end(path, whole, seed) -> None:
    made = Made(whole)
    one = made.waits(made.one, made.place(made.one), int(made.two.task))
    two = made.waits(made.two, made.place(made.two), int(made.one.task))
    chance = random.Random(seed)
    near = [one, two, made.place(made.one), made.place(made.two), made.place(made.one) + 16]
    places = [*made.words, *(physical(place + 8 * n) for place in near for n in range(4))]
    for _ in range(6):
        broken = dict(made.words)
        for place in chance.sample(places, 3):
            value = chance.choice([*near, 0, 1, int(made.one.task), chance.getrandbits(64)])
            broken[place] = value.to_bytes(8, whole.byte_order)
        with phypan.open(path) as dump:
            damage(dump, broken)
            assert len(run(dump, "locks")) <= 2


def test_cpus_that_wait_for_a_queued_spinlock(kernel) -> None:
    """Made: no kernel here died so. The layout is what the kernel's own types say."""
    if kernel.types is None or not kernel.symbols.find("qnodes"):
        pytest.skip("this kernel has no queued spinlocks")
    from drgn.helpers.linux.percpu import per_cpu

    task = next(task for task in tasks.each(kernel) if task.active)
    lock = kernel.symbols.address("tasklist_lock") or kernel.symbols.address("jiffies_64")
    node = per_cpu(kernel.program["qnodes"], task.cpu)
    order = kernel.byte_order
    words = {
        physical(int(node.count.address_of_())): (1).to_bytes(4, order),
        physical(int(node.nodes[0].lock.address_of_())): lock.to_bytes(8, order),
        physical(lock): (task.cpu << 1 | 1).to_bytes(4, order),
    }
    with phypan.open(kernel.source.removeprefix("dump directory ")) as dump:
        damage(dump, words)
        (row,) = rows(dump)
        assert (row.kind, row.lock, row.pid, row.owner) == ("spinlock", lock, task.pid, task.pid)
        assert row.deadlock == 1, "a CPU that waits for itself"


@pytest.mark.parametrize("in_register", [3, 31, 20])
def test_cpus_that_spin_on_locks_of_each_other(path, whole, in_register) -> None:
    """Made: the registers of two CPUs are those of waiting for what the other holds."""
    spins = next(s for s in whole.symbols.find("_raw_spin_lock") if s.is_text)
    first, second = (int(task.task.stack) + 0x900 for task in tasks.each(whole) if task.comm in
                     ("phypan_alpha", "phypan_bravo"))  # fmt: skip
    locks_of = {0: (first, 1), 1: (second, 0)}  # CPU -> the lock it wants, who holds that
    order = whole.byte_order
    words = {
        physical(lock): (0x8000 << 16 | owner).to_bytes(4, order)
        for lock, owner in locks_of.values()
    }
    with phypan.open(path) as dump:
        damage(dump, words)
        made = []
        for cpu in dump.cpus:
            registers = dict(cpu.firmware)
            registers |= {
                "NIA": spins.address + 8,
                "LR": spins.address + 8,
                "MSR": 1 << 63 | 0x1032,
            }
            registers |= {
                f"GPR{in_register:02}": locks_of[cpu.number][0],
                "GPR30": 0xC000000000000004,
            }
            made.append(replace(cpu, firmware=registers, kernel=None))
        dump.cpus = made
        found = {row.comm: row for row in rows(dump)}
        assert set(found) == {"phypan_busy", "phypan_crash"}
        assert {(row.kind, row.known_by) for row in found.values()} == {("spinlock", "registers")}
        assert {row.lock for row in found.values()} == {first, second}
        assert found["phypan_busy"].owner_comm == "phypan_crash"
        assert {row.deadlock for row in found.values()} == {1}


@pytest.mark.parametrize(("function", "kind"), [
    ("__mutex_lock.constprop.0", "mutex"), ("mutex_lock_killable", "mutex"),
    ("__ww_mutex_lock_slowpath", "mutex"), ("down_read", "rw_semaphore"),
    ("rwsem_down_write_slowpath", "rw_semaphore"), ("call_rwsem_down_read_failed", "rw_semaphore"),
    ("___down_common", "semaphore"), ("down", "semaphore"), ("__down_interruptible", "semaphore"),
    ("rt_mutex_slowlock_block.constprop.0", "rt_mutex"), ("kernel_shutdown_prepare", None),
    ("_raw_spin_lock_irqsave", "spinlock"), ("queued_spin_lock_slowpath", "spinlock"),
    ("do_raw_spin_lock", "spinlock"), ("splpar_spin_yield", "spinlock"),
    ("_raw_spin_unlock", None), ("shutdown_write", None), ("download", None),
    ("schedule", None), ("", None),
])  # fmt: skip
def test_kinds_by_the_names_of_functions(function, kind) -> None:
    assert lock_waiters.kind_of(function) == kind


# -- circles -------------------------------------------------------------------------------------


@given(st.dictionaries(st.integers(0, 12), st.none() | st.integers(0, 14), max_size=12))
def test_circles_are_those_that_a_walk_from_each_task_finds(holders) -> None:
    expected = set()
    for start in holders:
        seen, task = [], start
        while task in holders and task not in seen:
            seen.append(task)
            task = holders[task]
        if task == start and seen:
            expected.add(frozenset(seen))
    found = locks.cycles(holders)
    assert {frozenset(circle) for circle in found} == expected
    assert len(found) == len(expected)
    for circle in found:
        for one, two in zip(circle, [*circle[1:], circle[0]], strict=True):
            assert holders[one] == two
