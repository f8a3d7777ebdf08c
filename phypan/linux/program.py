"""A drgn.Program over a dump: its memory, its registers, its platform."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from phypan.errors import InputError, NotInDump, PhypanError, TranslationFault, Unsupported
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.memory import Memory

if TYPE_CHECKING:
    import drgn

    from phypan.dump import Dump
    from phypan.linux.access import Space
    from phypan.linux.debuginfo import DebugFile
    from phypan.linux.symbols import Symbols

_ALL = (1 << 64) - 1
ReadSegment = Callable[[int, int, int, bool], bytes]


def need_drgn() -> None:
    """Raise Unsupported when drgn is not installed."""
    try:
        import drgn  # noqa: F401
    except ImportError as error:
        raise Unsupported(
            f"drgn is not here: {error}",
            hint="pip install drgn; on POWER it has to be compiled, or comes with the distribution",
        ) from error


def complete(dump: Dump, symbols: Symbols, banner: bytes | None) -> Vmcoreinfo:
    """VMCOREINFO with all that drgn insists on, taken from elsewhere where it does not say."""
    text = dump.vmcoreinfo.without("CRASHTIME").text if dump.vmcoreinfo else b""
    info = Vmcoreinfo(text)
    release = re.match(rb"Linux version (\S+)", banner or b"")
    root = symbols.address("swapper_pg_dir")
    if not info.release and release:
        text += b"OSRELEASE=%s\n" % release[1]
    if not info.page_size:
        text += b"PAGESIZE=%d\n" % dump.page_size
    if not info.symbol("swapper_pg_dir") and root:
        text += b"SYMBOL(swapper_pg_dir)=%x\n" % root
    return Vmcoreinfo(text)


def new(descriptor: int) -> drgn.Program:
    """A Program over a core file (phypan.linux.core): without memory, types or symbols yet."""
    from drgn import Program

    program = Program()
    try:
        program.set_core_dump(descriptor)
    except Exception as error:
        raise Unsupported(f"drgn cannot use this dump: {error}") from error
    return program


def load(program: drgn.Program, files: Sequence[DebugFile], *, force: bool) -> None:
    """Give `program` debuginfo. With `force` a vmlinux of any build is taken."""
    paths = [str(file.path) for file in files]
    try:
        for file in files if force else ():
            if file.is_kernel:
                program.create_loaded_modules()
                program.main_module().try_file(file.path, force=True)
                paths.remove(str(file.path))
        if paths:
            program.load_debug_info(paths)
    except Exception as error:
        raise InputError(f"drgn cannot use it: {error}", where=", ".join(paths)) from error


def add_memory(program: drgn.Program, memory: Memory, space: Space) -> None:
    """Have `program` read physical memory from `memory`, and effective addresses from `space`."""
    program.add_memory_segment(0, _ALL, _reader(memory.view), True)
    program.add_memory_segment(0, _ALL, _reader(space.read), False)


def _reader(read: Callable[[int, int], bytes | memoryview]) -> ReadSegment:
    """A function that drgn reads by: where there is nothing, its FaultError has phypan's reason."""
    from drgn import FaultError

    def read_segment(address: int, size: int, offset: int, physical: bool) -> bytes:
        try:
            return read(address, size)  # type: ignore[return-value] # drgn takes any buffer
        except TranslationFault as error:
            raise FaultError(error.what, error.address) from None
        except NotInDump as error:
            raise FaultError(str(error), error.address if physical else address) from None
        except PhypanError as error:
            raise FaultError(error.what, address) from None

    return read_segment
