"""Tasks: found by the tree of pids and by the list, and who crashed."""

from __future__ import annotations

import pytest

import phypan
from phypan.linux import tasks

drgn = pytest.importorskip("drgn")


def test_the_tree_and_the_list_have_the_same_tasks(opened) -> None:
    by_tree = {int(task.task) for task in tasks.each(opened) if task.pid}
    by_list = {int(task) for task in tasks._by_list(opened)}
    assert by_tree == by_list
    assert len(by_tree) > 40


def test_the_idle_tasks_of_all_cpus_come_first(opened) -> None:
    first = list(tasks.each(opened))[:3]
    assert [task.comm for task in first] == ["swapper/0", "swapper/1", "init"]
    assert [(task.pid, task.cpu) for task in first[:2]] == [(0, 0), (0, 1)]


def test_who_crashed(opened, real_of) -> None:
    crashed = tasks.crashed(opened)
    assert (crashed.comm, crashed.active, crashed.state) == ("phypan_crash", True, "RU")
    assert crashed.cpu == opened.crashing_cpu.number
    assert tasks.find(opened, crashed.pid).task == crashed.task


def test_cpus_that_panic_took_out_are_still_known(opened) -> None:
    assert tasks.online_cpus(opened) == [cpu.number for cpu in opened.cpus] == [0, 1]


def test_threads_have_the_pid_of_their_group(kernel) -> None:
    if kernel.types is None:
        pytest.skip("this kernel has no types")
    found = {task.pid: task for task in tasks.each(kernel)}
    assert all(task.group in found for task in found.values())
    assert all(
        int(found[task.group].task) == int(task.task.group_leader)
        for task in found.values()
        if task.pid
    )


def test_a_pid_that_is_not_there(opened) -> None:
    with pytest.raises(phypan.Unsupported, match="no task 99999") as caught:
        tasks.find(opened, 99999)
    assert "ps" in caught.value.hint
