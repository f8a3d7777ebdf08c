"""Run queues of CPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Dump, hookimpl

if TYPE_CHECKING:
    import drgn


@dataclass(frozen=True)
class RunqueueRow:
    """A task on a run queue, or the one that ran."""

    cpu: int
    runqueue: Address  # of struct rq, effective
    queue: str  # current, deadline, real-time, fair
    pid: int
    task: Address
    priority: int  # 0 to 99 real-time, 100 to 139 others
    comm: str


def runqueue(dump: Dump) -> Iterator[RunqueueRow]:
    """List what ran and what waited to run on each CPU (crash's runq)."""
    from drgn.helpers.linux.sched import cpu_rq

    from phypan.linux import tasks, walk

    for cpu in tasks.online_cpus(dump):
        queue = walk.attempt(
            dump.problems, partial(cpu_rq, dump.program, cpu), f"run queue {cpu}", None
        )
        if queue is None:
            continue
        for kind, found in _queues(queue):
            waiting = walk.walk(dump.problems, found, f"{kind} queue of CPU {cpu}", most=1 << 16)
            make = partial(_row, cpu, queue, kind)
            yield from walk.each(dump.problems, waiting, make, "task")


def _queues(queue: drgn.Object) -> Iterator[tuple[str, Iterable[drgn.Object]]]:
    from drgn.helpers.linux.sched import rq_for_each_fair_task, rq_for_each_rt_task

    yield "current", [queue.curr.read_()]
    yield "deadline", _deadline(queue)
    yield "real-time", rq_for_each_rt_task(queue)
    yield "fair", (task for task in rq_for_each_fair_task(queue) if task != queue.curr)


def _deadline(queue: drgn.Object) -> Iterator[drgn.Object]:
    from drgn import container_of
    from drgn.helpers.linux.rbtree import rbtree_inorder_for_each

    if not hasattr(queue, "dl"):
        return
    for node in rbtree_inorder_for_each(queue.dl.root.rb_root.address_of_()):
        yield container_of(node, "struct task_struct", "dl.rb_node")


def _row(cpu: int, queue: drgn.Object, kind: str, task: drgn.Object) -> RunqueueRow:
    from phypan.linux.walk import text

    return RunqueueRow(
        cpu=cpu,
        runqueue=int(queue),
        queue=kind,
        pid=int(task.pid),
        task=int(task),
        priority=int(task.prio),
        comm=text(task.comm),
    )


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The run queues."""
    return [Analysis(runqueue, RunqueueRow, needs=frozenset({"types"}))]
