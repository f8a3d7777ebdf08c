"""Open files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Dump, hookimpl

if TYPE_CHECKING:
    import drgn

    from phypan.linux.tasks import Task

_KINDS = {
    0o14: "socket",
    0o12: "link",
    0o10: "file",
    6: "block",
    4: "directory",
    2: "char",
    1: "fifo",
}
_MOST = 1 << 16  # files of one task


@dataclass(frozen=True)
class FileRow:
    """One open file of a task."""

    pid: int
    comm: str
    fd: str  # number of the descriptor; "cwd", "root"
    file: Address | None  # of struct file, effective; None for cwd and root
    dentry: Address
    inode: Address
    kind: str  # file, directory, char, block, fifo, socket, other
    position: int | None
    path: str


def files(dump: Dump, pids: tuple[int, ...] = (), *, all: bool = False) -> Iterator[FileRow]:
    """List open files: of the task that crashed, of those named, or of all.

    all  of all tasks
    """
    from phypan.linux import tasks, walk

    if pids:
        chosen = [tasks.find(dump, pid) for pid in pids]
    elif all:
        chosen = list(tasks.each(dump))
    else:
        chosen = [tasks.crashed(dump)]
    for task in chosen:
        where = f"files of task {task.pid}"
        if walk.attempt(dump.problems, partial(_has_none, task), where, True):
            continue
        yield from _directories(dump, task)
        yield from _of_task(dump, task)


def _has_none(task: Task) -> bool:
    return not task.task.files


def _directories(dump: Dump, task: Task) -> Iterator[FileRow]:
    from phypan.linux import walk

    def row(name: str) -> FileRow:
        return _row(task, name, None, task.task.fs.member_("pwd" if name == "cwd" else name))

    yield from walk.each(dump.problems, ("cwd", "root"), row, f"task {task.pid},")


def _of_task(dump: Dump, task: Task) -> Iterator[FileRow]:
    from drgn.helpers.linux.fs import for_each_file

    from phypan.linux import walk

    def pairs() -> list[tuple[int, drgn.Object]]:
        found = []
        for number, pair in enumerate(for_each_file(task.task)):
            if number >= _MOST:
                raise ValueError(f"more than {_MOST} files")
            if pair[1]:  # else it was promised to a file that was not open yet
                found.append(pair)
        return found

    def row(pair: tuple[int, drgn.Object]) -> FileRow:
        fd, file = pair
        return _row(task, str(fd), file, file.f_path)

    where = f"files of task {task.pid}"
    opened = walk.attempt(dump.problems, pairs, where, [])
    yield from walk.each(dump.problems, opened, row, f"task {task.pid}, file")


def _row(task: Task, fd: str, file: drgn.Object | None, path: drgn.Object) -> FileRow:
    inode = path.dentry.d_inode
    mode = int(inode.i_mode) if inode else 0
    return FileRow(
        pid=task.pid,
        comm=task.comm,
        fd=fd,
        file=None if file is None else int(file),
        dentry=int(path.dentry),
        inode=int(inode),
        kind=_KINDS.get(mode >> 12, "other"),
        position=None if file is None else int(file.f_pos),
        path=_path(path, inode),
    )


def _path(path: drgn.Object, inode: drgn.Object) -> str:
    """The path; for what has none, what /proc/PID/fd shows: "pipe:[12]", "socket:[34]"."""
    from drgn.helpers.linux.fs import d_path

    from phypan.linux.walk import text

    name = text(path.mnt.mnt_sb.s_type.name)
    if name in ("pipefs", "sockfs"):
        return f"{name.removesuffix('fs').replace('sock', 'socket')}:[{int(inode.i_ino)}]"
    if name == "anon_inodefs":
        return f"anon_inode:{text(path.dentry.d_name.name)}"
    return text(d_path(path))


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The open files."""
    return [Analysis(files, FileRow, needs=frozenset({"types"}))]
