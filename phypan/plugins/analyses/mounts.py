"""Mounted file systems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Dump, hookimpl

if TYPE_CHECKING:
    import drgn

_READ_ONLY = 0x40  # MNT_READONLY


@dataclass(frozen=True)
class MountRow:
    """One mount, in the order of /proc/PID/mountinfo."""

    id: int
    parent: int  # id of the mount that it is on
    mount: Address  # of struct mount, effective
    superblock: Address
    type: str
    device: str  # as /proc/mounts names it
    directory: str
    read_only: bool


def mounts(dump: Dump, *, pid: int | None = None) -> Iterator[MountRow]:
    """List the mounted file systems.

    pid  in the mount namespace of this task; without it, in the first one
    """
    from drgn.helpers.linux.fs import for_each_mount

    from phypan.linux import tasks, walk

    program = dump.program
    if pid is None:
        found = for_each_mount(program)
    else:
        found = for_each_mount(tasks.find(dump, pid).task.nsproxy.mnt_ns)
    mounted = walk.walk(dump.problems, found, "mounts", most=1 << 16)
    yield from walk.each(dump.problems, mounted, _row, "mount")


def _row(mount: drgn.Object) -> MountRow:
    from drgn.helpers.linux.fs import mount_dst, mount_fstype, mount_src

    from phypan.linux.walk import text

    return MountRow(
        id=int(mount.mnt_id),
        parent=int(mount.mnt_parent.mnt_id),
        mount=int(mount),
        superblock=int(mount.mnt.mnt_sb),
        type=text(mount_fstype(mount)),
        device=text(mount_src(mount)),
        directory=text(mount_dst(mount)),
        read_only=bool(int(mount.mnt.mnt_flags) & _READ_ONLY),
    )


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The mounts."""
    return [Analysis(mounts, MountRow, needs=frozenset({"types"}))]
