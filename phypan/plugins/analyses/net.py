"""Network devices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Dump, hookimpl

if TYPE_CHECKING:
    import drgn

# enum net_device_flags, as `ip link` shows them (include/uapi/linux/if.h)
_FLAGS = {
    0: "UP",
    1: "BROADCAST",
    3: "LOOPBACK",
    4: "POINTOPOINT",
    6: "RUNNING",
    7: "NOARP",
    8: "PROMISC",
    10: "MASTER",
    11: "SLAVE",
    12: "MULTICAST",
    16: "LOWER_UP",
    17: "DORMANT",
}
_STATES = ("unknown", "not present", "down", "lower layer down", "testing", "dormant", "up")
_MAX_ADDRESS = 32  # bytes: MAX_ADDR_LEN
_MOST = 1 << 16  # namespaces, devices


@dataclass(frozen=True)
class NetRow:
    """One network device."""

    namespace: int  # inode number of its network namespace
    index: int
    device: Address  # of struct net_device, effective
    name: str
    mtu: int
    state: str
    flags: tuple[str, ...]
    mac: str
    addresses: tuple[str, ...]


def net(dump: Dump) -> Iterator[NetRow]:
    """List network devices and their addresses, in all namespaces."""
    from drgn.helpers.linux.net import for_each_net, for_each_netdev

    from phypan.linux import walk

    spaces = walk.walk(dump.problems, for_each_net(dump.program), "network namespaces", most=_MOST)
    for space in spaces:
        devices = walk.walk(dump.problems, for_each_netdev(space), "network devices", most=_MOST)
        yield from walk.each(dump.problems, devices, partial(_row, space), "device")


def _row(space: drgn.Object, device: drgn.Object) -> NetRow:
    from phypan.linux.walk import text

    state, flags = int(device.operstate), int(device.flags)
    return NetRow(
        namespace=int(space.ns.inum),
        index=int(device.ifindex),
        device=int(device),
        name=text(device.name),
        mtu=int(device.mtu),
        state=_STATES[state] if state < len(_STATES) else str(state),
        flags=tuple(name for bit, name in _FLAGS.items() if flags >> bit & 1),
        mac=_mac(device),
        addresses=tuple(_addresses(device)),
    )


def _mac(device: drgn.Object) -> str:
    """The hardware address: a pointer, and in old kernels an array."""
    size = min(int(device.addr_len), _MAX_ADDRESS)
    address = device.dev_addr
    start = address.address_ if address.type_.kind.name == "ARRAY" else int(address)
    return str(device.prog_.read(start, size).hex(":"))


def _addresses(device: drgn.Object) -> Iterator[str]:
    from drgn.helpers.linux.net import netdev_ipv4_addrs, netdev_ipv6_addrs

    yield from map(str, netdev_ipv4_addrs(device))
    try:
        device.prog_.type("struct inet6_ifaddr")
    except LookupError:  # a kernel without IPv6, or one that has it as a module without types
        return
    yield from map(str, netdev_ipv6_addrs(device))


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The network devices."""
    return [Analysis(net, NetRow, needs=frozenset({"types"}))]
