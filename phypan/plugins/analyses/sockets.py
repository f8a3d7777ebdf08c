"""Sockets that processes had open."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Dump, hookimpl

if TYPE_CHECKING:
    import drgn

    from phypan.linux.tasks import Task

_FAMILIES = {1: "unix", 2: "inet", 10: "inet6", 16: "netlink", 17: "packet", 38: "alg", 40: "vsock"}
_TYPES = {1: "stream", 2: "datagram", 3: "raw", 4: "rdm", 5: "seqpacket", 10: "packet"}
_STATES = (  # include/net/tcp_states.h
    *("", "established", "syn sent", "syn received", "fin wait 1", "fin wait 2", "time wait"),
    *("closed", "close wait", "last ack", "listen", "closing", "new syn received"),
)
_SOCKET = 0o14  # S_IFSOCK
_MOST = 1 << 16  # files of one task
_MAX_PATH = 108  # bytes of sun_path


@dataclass(frozen=True)
class SocketRow:
    """One socket of a process. Those in TIME_WAIT belong to none and are not among them."""

    pid: int
    comm: str
    fd: int
    sock: Address  # of struct sock, effective
    inode: int
    family: str
    type: str
    state: str
    local: str
    remote: str


def sockets(dump: Dump) -> Iterator[SocketRow]:
    """List the sockets that processes had open: addresses, states, who has them."""
    from phypan.linux import tasks, walk

    for task in tasks.each(dump):
        if task.pid != task.group:
            continue  # threads share their files
        where = f"files of task {task.pid}"
        yield from walk.attempt(dump.problems, partial(_of_task, dump, task), where, [])


def _of_task(dump: Dump, task: Task) -> list[SocketRow]:
    from drgn.helpers.linux.fs import for_each_file

    found: list[SocketRow] = []
    if not task.task.files:
        return found
    for number, (fd, file) in enumerate(for_each_file(task.task)):
        if number >= _MOST:
            raise ValueError(f"more than {_MOST} files")
        if not file:
            continue  # the descriptor was promised to a file that was not open yet
        inode = file.f_inode
        if inode and int(inode.i_mode) >> 12 == _SOCKET:
            found.append(_row(dump, task, fd, inode))
    return found


def _row(dump: Dump, task: Task, fd: int, inode: drgn.Object) -> SocketRow:
    from drgn.helpers.linux.net import SOCKET_I

    socket = SOCKET_I(inode)
    sock = socket.sk
    common = sock.member_("__sk_common")
    family, state = int(common.skc_family), int(common.skc_state)
    local, remote = _ends(dump, family, sock, common)
    kind = int(socket.type)
    return SocketRow(
        pid=task.pid,
        comm=task.comm,
        fd=fd,
        sock=int(sock),
        inode=int(inode.i_ino),
        family=_FAMILIES.get(family, str(family)),
        type=_TYPES.get(kind, str(kind)),
        state=_STATES[state] if state < len(_STATES) else str(state),
        local=local,
        remote=remote,
    )


def _ends(dump: Dump, family: int, sock: drgn.Object, common: drgn.Object) -> tuple[str, str]:
    """(local, remote) address of a socket, in the notation of its family."""
    if family == 1:
        return _unix(sock)
    if family not in (2, 10):
        return "", ""
    # Addresses and the remote port stand in the network's byte order, the local port does not.
    port = int.from_bytes(int(common.skc_dport).to_bytes(2, dump.byte_order), "big")
    names = ("skc_v6_rcv_saddr", "skc_v6_daddr") if family == 10 else ("skc_rcv_saddr", "skc_daddr")
    ends = []
    for name, number in zip(names, (int(common.skc_num), port), strict=True):
        raw = common.prog_.read(common.member_(name).address_, 16 if family == 10 else 4)
        address = _address(raw)
        ends.append(f"[{address}]:{number}" if family == 10 else f"{address}:{number}")
    return ends[0], ends[1]


def _address(raw: bytes) -> str:
    address = ipaddress.ip_address(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    return f"::ffff:{mapped}" if mapped else str(address)


def _unix(sock: drgn.Object) -> tuple[str, str]:
    from drgn import cast

    from phypan.linux.walk import text

    unix = cast("struct unix_sock *", sock)
    path = unix.addr.read_()
    if not path:
        return "", ""
    name = path.name[0].sun_path.address_
    # the length counts the family's two bytes; a name that begins with NUL is an abstract one
    size = max(0, min(int(path.len) - 2, _MAX_PATH))
    raw = sock.prog_.read(name, size)
    return (f"@{text(raw[1:])}" if raw[:1] == b"\0" else text(raw.split(b"\0")[0])), ""


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The sockets."""
    return [Analysis(sockets, SocketRow, needs=frozenset({"types"}))]
