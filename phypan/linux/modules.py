"""The loaded modules: their symbols and types."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from phypan.errors import PhypanError, Problem
from phypan.formats._records import STRUCT_ORDER
from phypan.formats.btf import Btf
from phypan.linux.symbols import Table
from phypan.linux.types import BtfTypes
from phypan.linux.walk import faults, reason, text, walk

if TYPE_CHECKING:
    import drgn

    from phypan.dump import Dump

_MAX_SYMBOLS = 1 << 20  # of one module
_MAX_STRINGS = 32 << 20  # bytes
_MAX_BTF = 64 << 20  # bytes
_SYMBOL = 24  # bytes of Elf64_Sym


def each(dump: Dump) -> Iterator[drgn.Object]:
    """struct module * of each loaded module, the last loaded first."""
    from drgn.helpers.linux.list import list_for_each_entry

    head = dump.program["modules"].address_of_()
    modules = list_for_each_entry("struct module", head, "list")
    yield from walk(dump.problems, modules, "list of modules", most=1 << 16)


def tables(dump: Dump) -> Iterator[Table]:
    """The symbols of each module."""
    for module in each(dump):
        try:
            name = text(module.name)
            yield _table(dump, module, name)
        except faults() as error:
            where = f"module at {int(module):#x}"
            dump.problems.append(Problem(reason(error), where, "its symbols are lost"))


def _table(dump: Dump, module: drgn.Object, name: str) -> Table:
    """What mod->kallsyms tells: an ELF symbol table, since 5.2 with nm's letters beside it."""
    read, order = dump.kernel.space.read, STRUCT_ORDER[dump.byte_order]
    known = module.kallsyms.read_()
    count = min(int(known.num_symtab), _MAX_SYMBOLS)
    symbols = read(int(known.symtab), count * _SYMBOL)
    letters = read(int(known.typetab), count) if hasattr(known, "typetab") else bytes(count)
    entries = list(struct.iter_unpack(order + "IBBHQQ", symbols))
    size = max((name_at for name_at, *_ in entries), default=0) + 512
    strings = dump.kernel.read_some(int(known.strtab), min(size, _MAX_STRINGS))
    found = []
    for (name_at, info, _, place, address, _), letter in zip(entries, letters, strict=True):
        end = strings.find(b"\0", name_at)
        if not place or end <= name_at or not address:
            continue
        # Before 5.2 the letter was put into st_info.
        kind = chr(letter or info)
        found.append((address, kind + strings[name_at:end].decode("ascii", "backslashreplace")))
    found.sort()
    parts = _parts(module)
    behind = max((end for _, end in parts), default=None)
    return Table([a for a, _ in found], [n for _, n in found], behind, name, parts)


def _parts(module: drgn.Object) -> list[tuple[int, int]]:
    """(start, end) of the module's memory; what was freed after loading has no address."""
    parts = []
    if hasattr(module, "mem"):  # since 6.4
        parts = [(int(part.base), int(part.size)) for part in module.mem]
    elif hasattr(module, "core_layout"):  # since 4.5
        layouts = (module.core_layout, module.init_layout)
        parts = [(int(layout.base), int(layout.size)) for layout in layouts]
    elif hasattr(module, "module_core"):
        parts = [(int(module.module_core), int(module.core_size))]
        parts += [(int(module.module_init), int(module.init_size))]
    return [(base, base + size) for base, size in parts if base and size]


def types(dump: Dump, base: BtfTypes) -> Iterator[BtfTypes]:
    """The types of each module that has some of its own."""
    for where, address, size in _btfs(dump):
        try:
            data = dump.kernel.space.read(address, size)
            btf = Btf(data, dump.byte_order, base.btf)
        except PhypanError as error:
            dump.problems.append(Problem(error.what, where, "its types are lost"))
            continue
        dump.problems += btf.problems
        yield BtfTypes(base.program, btf, base)


def _btfs(dump: Dump) -> Iterator[tuple[str, int, int]]:
    """(whose, effective address, bytes) of the BTF of each module.

    The kernel's own list has them as they fit to the types of vmlinux; where no symbol tells where
    that is, modules of older kernels have them as they were loaded.
    """
    try:
        found = [_of_list(btf) for btf in _list_of_btfs(dump)]
    except faults():
        found = [_of_module(module) for module in each(dump)]
    for where, address, size in filter(None, found):
        if address and 0 < size <= _MAX_BTF:
            yield where, address, size


def _list_of_btfs(dump: Dump) -> list[drgn.Object]:
    from drgn.helpers.linux.list import list_for_each_entry

    head = dump.program["btf_modules"].address_of_()
    entries = list_for_each_entry("struct btf_module", head, "list")
    return [entry.btf for entry in walk(dump.problems, entries, "list of BTFs", most=1 << 16)]


def _of_list(btf: drgn.Object) -> tuple[str, int, int] | None:
    try:
        return f"BTF of {text(btf.name)}", int(btf.data), int(btf.data_size)
    except faults():
        return None


def _of_module(module: drgn.Object) -> tuple[str, int, int] | None:
    try:
        if getattr(module, "btf_base_data_size", 0):
            return None  # the types that it refers to are not those of vmlinux, but copies
        return f"BTF of {text(module.name)}", int(module.btf_data), int(module.btf_data_size)
    except faults():
        return None
