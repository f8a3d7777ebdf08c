"""A kernel's struct pages of several eras, and every way that leads to them, field by field.

The bytes of struct pages, nodes and zones are the platform model's: phypan.platform.
"""

from __future__ import annotations

from dataclasses import dataclass

from phypan import BytesStore, Dump, Extent, Memory, TranslationFault
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.platform.nodes import SIZE as NODE_SIZE
from phypan.platform.nodes import Node, Nodes
from phypan.platform.struct_pages import (  # noqa: F401 - for tests
    ANON,
    ERAS,
    FILE,
    HWPOISON,
    LRU,
    PRIVATE,
    SLAB,
    SWAPBACKED,
    SWAPCACHE,
    Era,
    StructPages,
)

LINEAR, VMEMMAP = 0xC000000000000000, 0xC00C000000000000
_SMALL_PAGES = ("2.6.26", "6.6")  # eras that are tried with pages of 4K


class _Space:
    """The linear map, and a vmemmap that begins at some physical address."""

    def __init__(self, memory: Memory, vmemmap: int) -> None:
        self.memory, self.vmemmap = memory, vmemmap

    def read(self, address: int, size: int) -> bytes:
        if VMEMMAP <= address < VMEMMAP + (1 << 40) and self.vmemmap >= 0:
            return self.memory.read(address - VMEMMAP + self.vmemmap, size)
        if LINEAR <= address < LINEAR + (1 << 44):
            return self.memory.read(address - LINEAR, size)
        raise TranslationFault(address, "nothing is mapped there")


class KernelDump(Dump):
    """A Dump that knows its address space without looking for it."""

    @property
    def spaces(self):  # type: ignore[override]
        return self._spaces


@dataclass
class MadeKernel:
    """A kernel's memory: struct pages, and what leads to them.

    frames  how many page frames there are; a multiple of those in a section
    model   sparse, extreme, flat, nodes
    """

    era: Era
    order: str = "big"
    frames: int = 1024
    model: str = "extreme"
    vmemmap: bool = True

    def __post_init__(self) -> None:
        self.page_size = 4096 if self.era.name in _SMALL_PAGES else 65536
        self.section = (1 << 24) // self.page_size
        self.frames = -(-self.frames // self.section) * self.section
        self.map_at = 0x100000
        address = VMEMMAP if self.vmemmap else LINEAR + self.map_at
        self.pages = StructPages(self.era, self.order, self.frames, address)
        self.low = bytearray(self.map_at)
        assert self.map_at + len(self.pages.data) < self.frames * self.page_size
        self.info = f"OSRELEASE={self.era.name}\nPAGESIZE={self.page_size}\n"
        self.info += f"{self.pages.vmcoreinfo}SYMBOL(_stext)={LINEAR:x}\n"
        self._map()
        self._nodes()

    @property
    def data(self) -> bytes:
        """What is at the beginning of memory; the rest is zeros."""
        return bytes(self.low + self.pages.data)

    def word(self, at: int, value: int) -> None:
        """An integer at a physical address."""
        data, start = (self.pages.data, self.map_at) if at >= self.map_at else (self.low, 0)
        data[at - start : at - start + 8] = value.to_bytes(8, self.order)  # type: ignore[arg-type]

    def place(self, frame: int) -> int:
        """Physical address of a struct page."""
        return self.map_at + frame * self.era.size

    def address(self, frame: int) -> int:
        """Effective address of a struct page."""
        return self.pages.address_of(frame)

    def put(self, frame: int, **values: int) -> None:
        """Set fields of a struct page."""
        self.pages.put(frame, **values)

    def compound(self, frame: int, order: int, *, hugetlb: bool = False, **values: int) -> None:
        """A compound page."""
        self.pages.compound(frame, order, hugetlb=hugetlb, **values)

    def free(self, frame: int, order: int) -> None:
        """A free block, in its list as well if there is one for such an order."""
        if 0 <= order < 9:
            self.nodes.free(self.pages, frame, order)
        else:
            self.pages.free(frame, order)

    def _map(self) -> None:
        base = self.address(0)
        if self.model in ("sparse", "extreme"):
            entry, count = 16, self.frames // self.section
            at = 0x2000
            self.info += f"SYMBOL(mem_section)={LINEAR + 0x1000:x}\nSIZE(mem_section)={entry}\n"
            self.info += "OFFSET(mem_section.section_mem_map)=0\nNUMBER(SECTION_SIZE_BITS)=24\n"
            if self.model == "extreme":
                self.word(0x1000, LINEAR + at)
                self.info += "LENGTH(mem_section)=16\n"
            else:
                at = 0x1000
                self.info += f"LENGTH(mem_section)={count + 10}\n"
            for number in range(count):
                self.word(at + number * entry, base | 3 | 4)  # present, has a map, is online
        elif self.model == "flat":
            self.info += f"SYMBOL(mem_map)={LINEAR + 0x1000:x}\n"
            self.word(0x1000, base)

    def _nodes(self) -> None:
        """One node with two zones, or two nodes of one zone each."""
        share = self.frames // 2
        if self.model == "nodes":
            nodes = [Node(n * share, (share, 0, 0), self.address(n * share)) for n in range(2)]
        else:
            nodes = [Node(0, (self.frames // 4, 0, self.frames - self.frames // 4))]

        def write(at: int, data: bytes) -> None:
            self.low[at : at + len(data)] = data

        self.nodes = Nodes(
            write, nodes, table=0x3000, start=0x4000, orders=9,
            order=self.order,  # type: ignore[arg-type]
        )  # fmt: skip
        assert 0x4000 + NODE_SIZE * len(nodes) <= self.map_at
        self.info += self.nodes.vmcoreinfo

    def dump(self, *, missing: tuple[str, ...] = (), size: int = 0) -> KernelDump:
        """The Dump. Lines of VMCOREINFO that begin with one of `missing` are left out."""
        lines = self.info.splitlines(keepends=True)
        text = "".join(line for line in lines if not line.startswith(missing or "\0"))
        whole = self.frames * self.page_size
        rest = BytesStore(bytes(1))
        rest.view = lambda offset, size: memoryview(bytes(size))  # type: ignore[method-assign]
        data = self.data
        memory = Memory([
            Extent(0, len(data), BytesStore(data), 0),
            Extent(len(data), whole - len(data), rest, 0),
        ])  # fmt: skip
        made = KernelDump("made", memory, byte_order=self.order, page_size=self.page_size,
                          vmcoreinfo=Vmcoreinfo(text.encode()))  # type: ignore[arg-type] # fmt: skip
        made._spaces = {"kernel": _Space(memory, self.map_at if self.vmemmap else -1)}
        return made
