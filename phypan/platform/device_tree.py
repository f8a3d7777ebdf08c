"""The device trees of both boots: RTAS node, memory and processors, as LoPAR 2.9 has them."""

from __future__ import annotations

import struct
from dataclasses import replace

from phypan.formats import device_tree
from phypan.formats.device_tree import Node
from phypan.platform import hypervisor as rtas
from phypan.platform.hypervisor import Hypervisor
from phypan.platform.lpar import Lpar

# ibm,segment-page-sizes: base page shift, SLB encoding, then (page shift, encoding in the entry)
_SEGMENT_PAGE_SIZES = (
    (12, 0x000, ((12, 0x0),)),
    (16, 0x110, ((16, 0x1), (24, 0x8))),
    (24, 0x100, ((24, 0x0),)),
)


def tree(hypervisor: Hypervisor, *, bootargs: str = "", phyp_names: bool = False) -> Node:
    """The tree that the partition is given now.

    phyp_names  with ibm,dump-kernel beside ibm,kernel-dump while a dump waits: the old kernel
                looks for the one early in the boot and for the other later
    """
    lpar = hypervisor.lpar
    cells = {"#address-cells": _cell(2), "#size-cells": _cell(2)}
    children = (
        Node("chosen", {"bootargs": bootargs.encode() + b"\0"}),
        _rtas(hypervisor, phyp_names),
        _cpus(lpar),
        *_memory(lpar),
    )
    model = {"model": b"phypan model\0", "compatible": b"IBM,pSeries\0", **cells}
    return Node("/", model, children)


def blob(hypervisor: Hypervisor, **options: object) -> bytes:
    """The same, flattened."""
    return device_tree.write(tree(hypervisor, **options))  # type: ignore[arg-type]


def without_dump(root: Node) -> Node:
    """A tree in which no dump waits any more."""
    names = ("ibm,kernel-dump", "ibm,dump-kernel")
    return replace(root, children=tuple(
        replace(node, properties={k: v for k, v in node.properties.items() if k not in names})
        if node.name == "rtas" else node
        for node in root.children
    ))  # fmt: skip


def _cell(value: int) -> bytes:
    return struct.pack(">I", value)


def _rtas(hypervisor: Hypervisor, phyp_names: bool) -> Node:
    sizes = b"".join(
        struct.pack(">IQ", kind, size)
        for kind, size in ((1, hypervisor.cpu_area_size), (2, hypervisor.hpte_area_size))
    )
    properties = {
        "ibm,configure-kernel-dump": _cell(rtas.CONFIGURE_KERNEL_DUMP),
        "ibm,configure-kernel-dump-sizes": sizes,
        "ibm,configure-kernel-dump-version": struct.pack(">HH", 1, 1),
        "ibm,os-term": _cell(rtas.OS_TERM),
        "ibm,extended-os-term": b"",
    }
    waiting = hypervisor.kernel_dump_property()
    if waiting is not None:
        properties["ibm,kernel-dump"] = waiting
        if phyp_names:
            properties["ibm,dump-kernel"] = waiting
    return Node("rtas", properties)


def _cpus(lpar: Lpar) -> Node:
    nodes = []
    for processor in lpar.processors:
        properties = {
            "device_type": b"cpu\0",
            "reg": _cell(processor.number),
            "ibm,ppc-interrupt-server#s": _cell(processor.number),
            "ibm,segment-page-sizes": _segment_page_sizes(),
        }
        if lpar.hpt is not None:
            properties["ibm,pft-size"] = _cell(0) + _cell(lpar.hpt.shift)
        nodes.append(Node(f"PowerPC,POWER9@{processor.number:x}", properties))
    return Node("cpus", {"#address-cells": _cell(1), "#size-cells": _cell(0)}, tuple(nodes))


def _segment_page_sizes() -> bytes:
    cells: list[int] = []
    for base, encoding, sizes in _SEGMENT_PAGE_SIZES:
        cells += [base, encoding, len(sizes)]
        cells += [value for pair in sizes for value in pair]
    return struct.pack(f">{len(cells)}I", *cells)


def _memory(lpar: Lpar) -> list[Node]:
    """The real mode area as a node of its own, as firmware gives it, and the rest."""
    stretches = [(0, lpar.rma_size)]
    if lpar.memory.size > lpar.rma_size:
        stretches.append((lpar.rma_size, lpar.memory.size - lpar.rma_size))
    return [
        Node(
            f"memory@{start:x}",
            {"device_type": b"memory\0", "reg": struct.pack(">QQ", start, size)},
        )
        for start, size in stretches
    ]
