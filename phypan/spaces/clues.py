"""Clues: what a dump says, without its page tables, that its page tables must agree with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan.errors import PhypanError
from phypan.formats import pt_regs
from phypan.formats._records import ByteOrder
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.memory import Memory
from phypan.spaces.eras import PAGE_OFFSET, Release

if TYPE_CHECKING:
    from phypan.dump import Dump

MMU_FTR_TYPE_RADIX = 0x40  # asm/mmu.h
_MSR_IR_DR = 0x30
MAX_AREAS = 256
_UTS_SIZE = 0x200  # bytes of struct uts_namespace up to behind its name


@dataclass(frozen=True)
class Clue:
    """Something that is known: `what` for people, and the effective address that it is about."""

    what: str
    address: int


@dataclass(frozen=True)
class Clues:
    """What is known before any page table is read.

    root      physical address of swapper_pg_dir; None if nothing says where it is
    release   as far as it can be read
    radix     whether the MMU is radix, and what says so
    starts    where regions begin, by name, as VMCOREINFO tells
    mapped    addresses outside of the linear map that were in use when the kernel crashed
    linear    addresses in the linear map that were in use
    said      evidence that needs no era, for people
    """

    memory: Memory
    order: ByteOrder
    page_shift: int
    page_size_known: bool
    root: int | None
    release: Release | None
    radix: tuple[bool, str] | None
    starts: tuple[tuple[str, Clue], ...]
    mapped: tuple[Clue, ...]
    linear: tuple[Clue, ...]
    said: tuple[str, ...]


def collect(dump: Dump) -> Clues:
    """The clues in a dump."""
    info = dump.vmcoreinfo or Vmcoreinfo(b"")
    root = info.symbol("swapper_pg_dir")
    symbols = ("init_uts_ns", "swapper_pg_dir", "_stext")
    found = ((name, info.symbol(name)) for name in symbols)
    linear = tuple(Clue(name, at) for name, at in found if at is not None and _linear(at))
    mapped = (*_areas(dump, info), *_registers(dump))
    return Clues(
        memory=dump.memory,
        order=dump.byte_order,
        page_shift=dump.page_size.bit_length() - 1,
        page_size_known=info.page_size is not None,
        root=None if root is None or not _linear(root) else root - PAGE_OFFSET,
        release=_release(info),
        radix=_radix(dump, info),
        starts=tuple(_starts(info)),
        mapped=mapped,
        linear=linear,
        said=tuple(_said(dump, info)),
    )


def _linear(address: int) -> bool:
    return PAGE_OFFSET <= address < PAGE_OFFSET + (1 << 46)


def _read(dump: Dump, address: int, size: int) -> bytes | None:
    """Bytes at an effective address of the linear map, None if the dump does not have them."""
    if not _linear(address):
        return None
    try:
        return dump.memory.read(address - PAGE_OFFSET, size)
    except PhypanError:
        return None


def _word(dump: Dump, address: int) -> int | None:
    data = _read(dump, address, 8)
    return None if data is None else int.from_bytes(data, dump.byte_order)


def _release(info: Vmcoreinfo) -> Release | None:
    parts = (info.release or "").split("-")[0].split(".")
    numbers = tuple(int(part) for part in parts if part.isdigit())
    return numbers or None


def _radix(dump: Dump, info: Vmcoreinfo) -> tuple[bool, str] | None:
    number = info.number("RADIX_MMU")
    if number is not None:
        return bool(number), f"NUMBER(RADIX_MMU)={number}"
    pointer, offset = info.symbol("cur_cpu_spec"), info.offset("cpu_spec.mmu_features")
    if pointer is None or offset is None:
        return None
    spec = _word(dump, pointer)
    features = None if spec is None else _word(dump, spec + offset)
    if features is None:
        return None
    return bool(features & MMU_FTR_TYPE_RADIX), f"cur_cpu_spec->mmu_features is {features:#x}"


def _starts(info: Vmcoreinfo) -> Iterator[tuple[str, Clue]]:
    for key in ("VMALLOC_START", "vmalloc_start"):
        start = info.number(key)
        if start is not None:
            yield "vmalloc", Clue(f"NUMBER({key})", start % (1 << 64))
    # A symbol in some kernels, the macro's value in others.
    start = info.symbol("vmemmap")
    if start is not None and not _linear(start):
        yield "vmemmap", Clue("SYMBOL(vmemmap)", start)


def _areas(dump: Dump, info: Vmcoreinfo) -> Iterator[Clue]:
    """First pages of areas of vmalloc: of vmap_area_list (3.10 to 6.8), or of vmlist before."""
    head, place = info.symbol("vmap_area_list"), info.offset("vmap_area.list")
    start = info.offset("vmap_area.va_start")
    if head is not None and place is not None and start is not None:
        at, name, end = _word(dump, head), "vmap_area_list", head
    else:
        head, start, place = info.symbol("vmlist"), info.offset("vm_struct.addr"), 0
        if head is None or start is None:
            return
        at, name, end = _word(dump, head), "vmlist", 0
    for _ in range(MAX_AREAS):
        if not at or at == end:
            return
        address = _word(dump, at - place + start)
        if address is not None:
            yield Clue(f"an area of {name}", address)
        at = _word(dump, at)


def _registers(dump: Dump) -> Iterator[Clue]:
    """What CPUs in kernel mode ran, and had as their stack."""
    for cpu in dump.cpus:
        regs = cpu.regs()
        if regs["msr"] & _MSR_IR_DR == _MSR_IR_DR and not regs["msr"] & pt_regs.MSR_PR:
            for name in ("nip", "gpr1"):
                if regs[name] >= PAGE_OFFSET and not _linear(regs[name]):
                    yield Clue(f"{name.upper()} of CPU {cpu.number}", regs[name])


def _said(dump: Dump, info: Vmcoreinfo) -> Iterator[str]:
    if info.page_size is not None:
        yield f"PAGESIZE={info.page_size}"
    radix = _radix(dump, info)
    if radix is not None:
        yield radix[1]
    names = info.symbol("init_uts_ns")
    if names is not None and info.release:
        data = _read(dump, names, _UTS_SIZE)
        if data is not None and info.release.encode() in data:
            yield "init_uts_ns is where the linear map has it"
