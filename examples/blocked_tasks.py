"""What are all those tasks waiting for? Tasks that sleep, by where they do, the most first.

python blocked_tasks.py vmcore [vmlinux]      R running, S sleeping, D uninterruptible, ...
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict

from drgn import FaultError, Object
from drgn.helpers.linux import for_each_task, task_state_to_char

import phypan

# What everybody sleeps in says nothing: of interest is who called that.
ANYONE = re.compile(r"__switch_to|context_switch|.*schedule.*|(__)?wait_for_common|.*nanosleep.*")


def channel(task: Object) -> str:
    """The function that a task sleeps in."""
    try:
        for frame in task.prog_.stack_trace(task):
            if not ANYONE.fullmatch(frame.name.lstrip(".")):
                return frame.name.lstrip(".")
    except (FaultError, ValueError):  # not in the dump; or it runs just now
        pass
    return "?"


with phypan.open(sys.argv[1], symbols=sys.argv[2:]) as dump:
    waiting = defaultdict(list)
    for task in for_each_task(dump.program):
        state = task_state_to_char(task)
        if state != "R":
            waiting[state, channel(task)].append(task.comm.string_().decode(errors="replace"))

for (state, where), names in sorted(waiting.items(), key=lambda item: (-len(item[1]), item[0])):
    few = ", ".join(sorted(set(names))[:5])
    print(f"{len(names):4} {state} {where:24} {phypan.printable(few)}")
