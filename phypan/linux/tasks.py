"""The tasks of the crashed kernel, found in two ways: by the tree of pids, and by the list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from phypan.errors import Problem, Unsupported
from phypan.linux.walk import faults, reason, text, walk

if TYPE_CHECKING:
    import drgn

    from phypan.dump import Dump

_MAX_CPUS = 1 << 14  # Linux's NR_CPUS is 8192 at the most
_STATES = {
    "R": "RU",
    "S": "IN",
    "D": "UN",
    "T": "ST",
    "t": "TR",
    "X": "DE",
    "Z": "ZO",
    "P": "PA",
    "I": "ID",
}


@dataclass(frozen=True)
class Task:
    """A task, with what all analyses need of it.

    task    struct task_struct *, for drgn
    pid     of the thread; 0 for the idle task of a CPU
    group   pid of the process (tgid)
    cpu     that it runs on, or last ran on
    active  whether it was on a CPU at the crash
    state   as crash prints it: RU running, IN interruptible, UN uninterruptible, ID idle, ...
    """

    task: drgn.Object
    pid: int
    group: int
    cpu: int
    active: bool
    state: str
    comm: str


def each(dump: Dump) -> Iterator[Task]:
    """All tasks by pid, the idle ones of all online CPUs first; damaged ones are problems."""
    seen: set[int] = set()
    for task in _objects(dump):
        address = int(task)
        if address in seen:
            continue
        seen.add(address)
        try:
            yield of(task)
        except faults() as error:
            where = f"task at {address:#x}"
            dump.problems.append(Problem(reason(error), where, "it is left out"))


def of(task: drgn.Object) -> Task:
    """What is to be known of a struct task_struct *."""
    from drgn.helpers.linux.sched import task_cpu, task_on_cpu, task_state_to_char

    state = task_state_to_char(task)
    return Task(
        task=task,
        pid=int(task.pid),
        group=int(task.tgid),
        cpu=task_cpu(task),
        active=task_on_cpu(task),
        state=_STATES.get(state, state),
        comm=text(task.comm),
    )


def find(dump: Dump, pid: int) -> Task:
    """The task of a pid; Unsupported if there is none."""
    for task in each(dump):
        if task.pid == pid:
            return task
    raise Unsupported(f"no task {pid}", where=dump.source, hint="`phypan ps` lists all tasks")


def pgd(dump: Dump, pid: int) -> int:
    """Effective address of the top page table of a process (mm->pgd); Unsupported if it has none.

    pid may be that of any of its threads.
    """
    found = find(dump, pid)
    try:
        if found.task.mm:
            return int(found.task.mm.pgd)
    except faults() as error:
        raise Unsupported(
            f"the page tables of task {pid} cannot be found: {reason(error)}", where=dump.source
        ) from error
    raise Unsupported(
        f"task {pid} ({found.comm}) has no user addresses", where=dump.source,
        hint="it is one of the kernel's, or was about to exit",
    )  # fmt: skip


def online_cpus(dump: Dump) -> list[int]:
    """Numbers of the CPUs that were online when the trouble began.

    panic() takes the others out of the mask of online CPUs; their run queues stay online.
    """
    from drgn.helpers.linux.cpumask import for_each_online_cpu, for_each_present_cpu

    program = dump.program
    try:
        online = set(islice(for_each_online_cpu(program), _MAX_CPUS))
        present = islice(for_each_present_cpu(program), _MAX_CPUS)
        return sorted(online | {cpu for cpu in present if _was_online(program, cpu)})
    except faults() as error:
        meaning = "those with registers are taken"
        dump.problems.append(Problem(reason(error), "mask of online CPUs", meaning))
        return [cpu.number for cpu in dump.cpus]


def _was_online(program: drgn.Program, cpu: int) -> bool:
    from drgn.helpers.linux.sched import cpu_rq

    try:
        return bool(cpu_rq(program, cpu).online)
    except faults():
        return False


def _objects(dump: Dump) -> Iterator[drgn.Object]:
    yield from _idle(dump)
    from drgn.helpers.linux.pid import for_each_task

    known = len(dump.problems)
    yield from _by_pid(walk(dump.problems, for_each_task(dump.program), "tree of pids"))
    if len(dump.problems) > known:
        yield from walk(dump.problems, _by_list(dump), "list of tasks")


def _idle(dump: Dump) -> Iterator[drgn.Object]:
    from drgn.helpers.linux.sched import idle_task

    for cpu in online_cpus(dump):
        try:
            yield idle_task(dump.program, cpu)
        except faults() as error:
            where = f"idle task of CPU {cpu}"
            dump.problems.append(Problem(reason(error), where, "it is left out"))


def _by_pid(tasks: Iterable[drgn.Object]) -> list[drgn.Object]:
    """Sorted: kernels before 4.15 had a hash of pids."""

    def pid(task: drgn.Object) -> int:
        try:
            return int(task.pid)
        except faults():
            return 1 << 31

    return sorted(tasks, key=pid)


def _by_list(dump: Dump) -> Iterator[drgn.Object]:
    """Processes by init_task.tasks, each with its threads."""
    from drgn.helpers.linux.list import list_for_each_entry

    head = dump.program["init_task"].tasks.address_of_()
    for leader in list_for_each_entry("struct task_struct", head, "tasks"):
        yield leader
        threads = leader.signal.thread_head.address_of_()
        for task in list_for_each_entry("struct task_struct", threads, "thread_node"):
            if task != leader:
                yield task


def crashed(dump: Dump) -> Task:
    """The task that brought the partition down, as far as the kernel or the dump said.

    Raises Unsupported when neither did.
    """
    from drgn.helpers.linux.sched import cpu_curr

    cpu = dump.crashing_cpu
    try:
        if cpu is not None:
            return of(cpu_curr(dump.program, cpu.number))
        return of(dump.program.crashed_thread().object)
    except faults() as error:
        hint = "`phypan bt --cpus` shows what ran on each CPU"
        raise Unsupported(
            f"no task is known to have crashed: {reason(error)}", where=dump.source, hint=hint
        ) from error
