"""What drgn loads of phypan (entry points "drgn.plugins"): so plain drgn understands more.

For every vmcore of 64-bit POWER that drgn opens: symbols and types that are in the dump itself,
behind those of debuginfo, and on kernels with a hashed page table all of their addresses, of which
drgn alone reads the linear map. Registers stay those that drgn has found.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import drgn

    from phypan.dump import Dump

logger = logging.getLogger("drgn.phypan")
waiting: list[Dump] = []  # of `phypan drgn`: what the next Program is of, if its file has no name


def drgn_prog_set(prog: drgn.Program) -> None:
    """Called by drgn for each Program that has something to debug."""
    from drgn import Architecture, ProgramFlags

    path, platform = prog.core_dump_path, prog.platform
    if path is None or platform is None or platform.arch is not Architecture.PPC64:
        return
    if prog.flags & ProgramFlags.IS_LINUX_KERNEL and not prog.flags & ProgramFlags.IS_LIVE:
        _teach(prog, path)


def _teach(prog: drgn.Program, path: str) -> None:
    import phypan
    from phypan.linux import translate

    if translate.KEY in prog.cache:
        return  # this is loaded twice, as an entry point and by DRGN_PLUGINS
    whole = path.endswith(" (deleted)")
    if whole and not waiting:
        return  # a Program of phypan's own, which does the same
    try:
        dump = waiting.pop() if whole else phypan.open(path)
        _add(prog, dump, whole=whole)
    except phypan.PhypanError as error:
        logger.warning("drgn goes on without phypan: %s", error)
        return
    for problem in dump.problems:
        logger.warning("%s", problem)


def _add(prog: drgn.Program, dump: Dump, *, whole: bool) -> None:
    """Give `prog` what `dump` has; with `whole`, memory and debuginfo too."""
    from phypan.linux import program, translate

    kernel = dump.kernel
    hashed = dump.spaces.era is not None and dump.spaces.era.mmu == "hash"
    if whole or hashed:
        program.add_memory(prog, dump.memory, kernel.space)
        translate.install(prog, dump)
    else:
        prog.cache[translate.KEY] = dump
    kernel.teach(prog)
    if whole and kernel.debuginfo:
        program.load(prog, kernel.debuginfo, force=dump.force)
