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
from phypan.linux.walk import reason, text, walk

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
    from drgn import FaultError

    for module in each(dump):
        try:
            name = text(module.name)
            yield _table(dump, module, name)
        except (FaultError, PhypanError, AttributeError) as error:
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
    return Table([a for a, _ in found], [n for _, n in found], _end(module), name)


def _end(module: drgn.Object) -> int | None:
    """The first address behind the module's memory; None if that is not known."""
    parts = []
    if hasattr(module, "mem"):  # since 6.4
        parts = [(int(part.base), int(part.size)) for part in module.mem]
    elif hasattr(module, "core_layout"):  # since 4.5
        parts = [(int(module.core_layout.base), int(module.core_layout.size))]
    elif hasattr(module, "module_core"):
        parts = [(int(module.module_core), int(module.core_size))]
    return max((base + size for base, size in parts if base), default=None)


def types(dump: Dump, base: BtfTypes) -> Iterator[BtfTypes]:
    """The types of each module that has some of its own."""
    from drgn import FaultError

    for module in each(dump):
        try:
            size = int(module.btf_data_size)
            if not 0 < size <= _MAX_BTF:
                continue
            data = dump.kernel.space.read(int(module.btf_data), size)
            btf = Btf(data, dump.byte_order, base.btf)
        except AttributeError:  # a kernel whose modules have none
            return
        except (FaultError, PhypanError) as error:
            where = f"BTF of the module at {int(module):#x}"
            dump.problems.append(Problem(reason(error), where, "its types are lost"))
            continue
        dump.problems += btf.problems
        yield BtfTypes(base.program, btf, base)
