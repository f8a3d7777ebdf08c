"""Nodes, zones and free lists of the buddy allocator, written into the guest's memory.

Linux include/linux/mmzone.h: struct pglist_data, struct zone, struct free_area. The offsets are
made up; VMCOREINFO tells them, as it does those of every kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from phypan.formats._records import ByteOrder
from phypan.platform.struct_pages import StructPages

LINEAR = 0xC000000000000000
SIZE = 0x2000  # bytes that a struct pglist_data is given
MAX_NODES = 256
TABLE_SIZE = 8 * MAX_NODES + MAX_NODES // 8  # bytes of node_data and of node_online_map behind it
_ZONE, _SPANNED, _AREAS, _VM_STAT = 0x800, 16, 64, 0x600
_LISTS = 6  # MIGRATE_TYPES
_AREA = 16 * _LISTS + 8  # of struct free_area
_MOVABLE = 1  # the list that free pages are put on
_NR_ZONES, _START, _SPANNED_PAGES, _MEM_MAP, _ID = 0x1900, 0x1908, 0x1910, 0x1918, 0x1920

Write = Callable[[int, bytes], None]  # (physical address, bytes)


@dataclass(frozen=True)
class Node:
    """A node: its first page frame, how many each of its zones spans, a map of its own."""

    first: int
    zones: tuple[int, ...]
    mem_map: int | None = None


class Nodes:
    """The nodes as they are in memory.

    table   physical address of node_data, TABLE_SIZE bytes
    start   physical address of the first struct pglist_data, SIZE bytes for each node
    orders  how many orders free blocks have
    """

    def __init__(
        self, write: Write, nodes: Sequence[Node], *,
        table: int, start: int, orders: int, order: ByteOrder,
    ) -> None:  # fmt: skip
        self._write, self._order = write, order
        self._table, self._start, self._orders = table, start, orders
        self._lists: dict[int, list[int]] = {}  # head -> page frames in it, the first one last
        self._free: dict[int, int] = {}  # zone -> how many pages
        self._own_maps = any(node.mem_map is not None for node in nodes)
        online = (1 << len(nodes)) - 1
        write(table + 8 * MAX_NODES, b"".join(
            (online >> 64 * n & (1 << 64) - 1).to_bytes(8, order) for n in range(MAX_NODES // 64)
        ))  # fmt: skip
        for number, node in enumerate(nodes):
            self._node(number, node)

    def _node(self, number: int, node: Node) -> None:
        at = self._start + SIZE * number
        self._word(self._table + 8 * number, LINEAR + at)
        self._word(at + _NR_ZONES, len(node.zones), 4)
        self._word(at + _START, node.first)
        self._word(at + _SPANNED_PAGES, sum(node.zones))
        self._word(at + _MEM_MAP, node.mem_map or 0)
        self._word(at + _ID, number, 4)
        for zone, spanned in enumerate(node.zones):
            self._word(at + _ZONE * zone + _SPANNED, spanned)
            for block in range(self._orders):
                for kind in range(_LISTS):
                    head = self._head(number, zone, block) + 16 * (kind - _MOVABLE)
                    link = (LINEAR + head).to_bytes(8, self._order)
                    self._write(head, link + link)

    def _word(self, at: int, value: int, size: int = 8) -> None:
        self._write(at, value.to_bytes(size, self._order))

    def _head(self, node: int, zone: int, order: int) -> int:
        at = self._start + SIZE * node + _ZONE * zone
        return at + _AREAS + _AREA * order + 16 * _MOVABLE

    def free(self, pages: StructPages, frame: int, order: int, *, zone: int = 0) -> None:
        """Put a block of 1 << `order` pages of node 0 at the head of its free list."""
        pages.free(frame, order)
        head = self._head(0, zone, order)
        entries = self._lists.setdefault(head, [])
        link = pages.address_of(frame, "next")
        if entries:
            pages.put(entries[-1], prev=link)
            after = pages.address_of(entries[-1], "next")
        else:
            self._word(head + 8, link)
            after = LINEAR + head
        pages.put(frame, next=after, prev=LINEAR + head)
        self._word(head, link)
        entries.append(frame)
        self._word(head + 16 * (_LISTS - _MOVABLE), len(entries))  # free_area.nr_free
        self._free[zone] = self._free.get(zone, 0) + (1 << order)
        self._word(self._start + _ZONE * zone + _VM_STAT, self._free[zone])

    @property
    def vmcoreinfo(self) -> str:
        """What VMCOREINFO tells of nodes and zones."""
        own = f"OFFSET(pglist_data.node_mem_map)={_MEM_MAP}\n" if self._own_maps else ""
        return (
            f"SYMBOL(node_data)={LINEAR + self._table:x}\nLENGTH(node_data)={MAX_NODES}\n"
            f"SYMBOL(node_online_map)={LINEAR + self._table + 8 * MAX_NODES:x}\n"
            f"SIZE(nodemask_t)={MAX_NODES // 8}\n"
            f"SIZE(pglist_data)={SIZE}\nSIZE(zone)={_ZONE}\nSIZE(free_area)={_AREA}\n"
            f"SIZE(list_head)=16\nOFFSET(list_head.next)=0\nOFFSET(list_head.prev)=8\n"
            f"OFFSET(pglist_data.node_zones)=0\nOFFSET(pglist_data.nr_zones)={_NR_ZONES}\n"
            f"OFFSET(pglist_data.node_start_pfn)={_START}\n{own}"
            f"OFFSET(pglist_data.node_spanned_pages)={_SPANNED_PAGES}\n"
            f"OFFSET(pglist_data.node_id)={_ID}\nOFFSET(zone.spanned_pages)={_SPANNED}\n"
            f"OFFSET(zone.free_area)={_AREAS}\nOFFSET(zone.vm_stat)={_VM_STAT}\n"
            f"LENGTH(zone.free_area)={self._orders}\nOFFSET(free_area.free_list)=0\n"
            f"LENGTH(free_area.free_list)={_LISTS}\nNUMBER(NR_FREE_PAGES)=0\n"
        )
