"""The crashed kernel as drgn sees it, over phypan's physical memory alone: a second opinion.

drgn reads types and structures with the kernel's own DWARF. It is given physical memory and the
linear map; what it translates beyond that, it translates by itself (on radix).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests import real_dumps

PAGE_OFFSET = 0xC000000000000000
VM_IOREMAP = 1


def program(dump: Any, vmlinux: str) -> Any:
    """A drgn.Program of a dump."""
    import drgn

    flags = drgn.PlatformFlags.IS_64_BIT
    if dump.byte_order == "little":
        flags |= drgn.PlatformFlags.IS_LITTLE_ENDIAN
    prog = drgn.Program(drgn.Platform(drgn.Architecture.PPC64, flags))
    prog.set_linux_kernel_custom(dump.vmcoreinfo.text, False)

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        return dump.memory.read(offset, count)

    prog.add_memory_segment(0, dump.memory.end, read, True)
    prog.add_memory_segment(PAGE_OFFSET, dump.memory.end, read, False)
    prog.load_debug_info([vmlinux])
    return prog


@dataclass(frozen=True)
class Area:
    """An area of vmalloc or IO: its first address, and the physical address of each page."""

    start: int
    pages: tuple[int, ...]


def areas(prog: Any, page_size: int) -> Iterator[Area]:
    """What the kernel's own vm_structs say, out of the linear map."""
    from drgn.helpers.linux import rbtree_inorder_for_each_entry

    vmemmap, size = prog["vmemmap"].value_(), prog.type("struct page").size
    nodes = prog["vmap_nodes"]
    for n in range(prog["nr_vmap_nodes"].value_()):
        root = nodes[n].busy.root.address_of_()
        for area in rbtree_inorder_for_each_entry("struct vmap_area", root, "rb_node"):
            vm = area.vm
            if not vm:
                continue
            start, room = vm.addr.value_(), vm.size.value_()
            count = vm.nr_pages.value_()
            if vm.flags.value_() & VM_IOREMAP and vm.phys_addr.value_():
                first = vm.phys_addr.value_()
                # one guard page is behind it
                pages = range(first, first + room - page_size, page_size)
                yield Area(start, tuple(pages))
            elif count:
                found = ((vm.pages[i].value_() - vmemmap) // size * page_size for i in range(count))
                yield Area(start, tuple(found))


@dataclass(frozen=True)
class Process:
    """A process of the guest: pid, name, mm->pgd, mm->context.id, where its strings are."""

    pid: int
    name: str
    pgd: int
    context: int
    arguments: tuple[int, int]
    environment: tuple[int, int]


def processes(prog: Any) -> dict[int, Process]:
    """The shell processes that were there on purpose, by pid."""
    from drgn.helpers.linux import for_each_task

    found = {}
    for task in for_each_task(prog):
        name, mm = task.comm.string_().decode(), task.mm
        if name.startswith("phypan_") and mm:
            pid = task.pid.value_()
            found[pid] = Process(
                pid, name, mm.pgd.value_(), mm.context.id.value_(),
                (mm.arg_start.value_(), mm.arg_end.value_()),
                (mm.env_start.value_(), mm.env_end.value_()),
            )  # fmt: skip
    return found


@dataclass(frozen=True)
class Vma:
    """A line of /proc/PID/maps."""

    start: int
    end: int
    flags: str
    name: str


def told_maps(real: real_dumps.RealDump) -> dict[int, list[Vma]]:
    """What the guest printed of each process's memory just before it crashed."""
    result: dict[int, list[Vma]] = {}
    lines: list[Vma] = []
    for line in real.truth.split("\n"):
        words = line.split()
        if words[:1] == ["pid"]:
            lines = result.setdefault(int(words[1]), [])
        elif words and "-" in words[0] and len(words) >= 5:
            start, end = (int(part, 16) for part in words[0].split("-"))
            lines.append(Vma(start, end, words[1], words[5] if len(words) > 5 else ""))
    return result
