"""The core file that drgn is given: registers and VMCOREINFO of a dump, and no memory.

drgn learns of threads from the notes of a core file only. Memory is given to it as functions.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from phypan.formats import elfcore, ppc_notes
from phypan.formats.elfcore import ElfCore, Note, Segment

if TYPE_CHECKING:
    from phypan.dump import Cpu
    from phypan.formats._records import ByteOrder

NAME = "phypan"  # of the file: drgn's path of it has this in it

# drgn (libdrgn/arch_ppc64.c) takes the program counter from LR but for these releases and later.
_NIP_SINCE = ((6, 5, 0), (6, 4, 4), (6, 3, 13), (6, 1, 39), (5, 15, 121))


def open_core(cpus: Sequence[Cpu], text: bytes, order: ByteOrder) -> int:
    """A file descriptor of a core file with the registers of `cpus` and VMCOREINFO `text`."""
    notes = elfcore.write_notes(_notes(cpus, text, order), order)
    at = elfcore.head_size(1)
    segment = Segment(elfcore.PT_NOTE, at, 0, 0, len(notes), len(notes), flags=0)
    head = elfcore.write_head(ElfCore(order, 0, elfcore.EM_PPC64, (segment,)))
    descriptor = _unnamed_file()
    os.pwrite(descriptor, head + notes, 0)
    return descriptor


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(NAME)
    with tempfile.TemporaryFile(prefix=NAME) as file:
        return os.dup(file.fileno())


def _notes(cpus: Sequence[Cpu], text: bytes, order: ByteOrder) -> Iterator[Note]:
    """drgn finds the registers of a CPU by pr_pid, its number plus 1, if there is no CRASHTIME."""
    release = _release(text)
    for cpu in cpus:
        regs = cpu.regs()
        if cpu.kernel is None and _takes_lr(release):
            regs = regs.replace(link=regs["nip"])
        yield ppc_notes.write_prstatus(ppc_notes.Prstatus(cpu.number + 1, regs), order)
    yield Note(ppc_notes.VMCOREINFO, 0, text)


def _release(text: bytes) -> tuple[int, ...]:
    match = re.search(rb"^OSRELEASE=(\d+)\.(\d+)(?:\.(\d+))?", text, re.MULTILINE)
    return tuple(int(part or 0) for part in match.groups()) if match else ()


def _takes_lr(release: tuple[int, ...]) -> bool:
    """Whether drgn takes the program counter from LR on a kernel of this release."""
    same = [since for since in _NIP_SINCE if since[:2] == release[:2]]
    return not (release >= _NIP_SINCE[0] or (same and release >= same[0]))
