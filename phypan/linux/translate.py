"""drgn's helpers that walk page tables, made to work in every MMU mode.

drgn translates by itself for radix only. Three functions of its helpers' module for memory are
wrapped: a Program that phypan has made, or given its memory, is answered by phypan's spaces, every
other one by drgn, as before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from phypan.errors import NotInDump, PhypanError, TranslationFault

if TYPE_CHECKING:
    import drgn

    from phypan.dump import Dump

KEY = "phypan"  # of Program.cache: the Dump behind a Program
LINEAR = 0xC << 60  # effective address of physical address 0


def install(program: drgn.Program, dump: Dump) -> None:
    """Answer `program`'s questions for translations from `dump`."""
    from drgn.helpers.linux import mm

    program.cache[KEY] = dump
    wrapped: dict[str, Callable[..., Any]] = {
        "_linux_helper_direct_mapping_offset": _direct_mapping_offset,
        "_linux_helper_follow_phys": _follow_phys,
        "_linux_helper_read_vm": _read_vm,
    }
    for name, ours in wrapped.items():
        theirs = getattr(mm, name, None)
        if theirs is not None and not hasattr(theirs, "__wrapped__"):
            setattr(mm, name, _either(ours, theirs))


def _either(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(theirs)
    def answer(program: drgn.Program, *arguments: Any) -> Any:
        dump = program.cache.get(KEY)
        return theirs(program, *arguments) if dump is None else ours(dump, *arguments)

    return answer


def _direct_mapping_offset(dump: Dump) -> int:
    return LINEAR


def _follow_phys(dump: Dump, pgd: drgn.Object, address: int) -> int:
    from drgn import FaultError

    found = _space(dump, pgd).translate(int(address))
    if found.physical is None:
        raise FaultError(found.fault or "not mapped", int(address))
    return int(found.physical)


def _read_vm(dump: Dump, pgd: drgn.Object, address: int, size: int) -> bytes:
    from drgn import FaultError

    try:
        return bytes(_space(dump, pgd).read(int(address), int(size)))
    except TranslationFault as error:
        raise FaultError(error.fault, error.address) from None
    except (NotInDump, PhypanError) as error:
        raise FaultError(str(error), int(address)) from None


def _space(dump: Dump, pgd: drgn.Object) -> Any:
    root = int(pgd)
    if root == dump.symbols.address("swapper_pg_dir"):
        return dump.spaces["kernel"]
    return dump.spaces.process(pgd=root)
