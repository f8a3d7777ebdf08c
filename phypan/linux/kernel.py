"""The crashed kernel: what is known of its symbols and types, and the drgn.Program over it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from phypan.errors import InputError, PhypanError, Problem, Unsupported
from phypan.formats import btf as btf_format
from phypan.formats.btf import Btf
from phypan.linux import core, debuginfo, kallsyms, program, translate
from phypan.linux.access import LinearToo, Space, read_some
from phypan.linux.debuginfo import DebugFile
from phypan.linux.symbols import Symbols, Table

if TYPE_CHECKING:
    import drgn

    from phypan.dump import Dump
    from phypan.linux.types import BtfTypes

Types = Literal["BTF", "DWARF"]
_IMAGE = 64 << 20  # bytes from _stext in which BTF is looked for when no symbol tells where it is
_BANNER = re.compile(rb"Linux version [ -~]{10,500}\n\0")


class Kernel:
    """The kernel in a dump. Nothing is read before it is asked for."""

    def __init__(self, dump: Dump) -> None:
        self._dump = dump

    @cached_property
    def space(self) -> Space:
        """The kernel's addresses: all of them, or the linear map where no more is known."""
        spaces = self._dump.spaces
        linear = spaces["linear"]
        try:
            tables = spaces["kernel"]
        except Unsupported as error:
            meaning = "only addresses in the linear map can be read"
            self._problem(error.what, "address spaces", meaning)
            return linear
        return LinearToo(tables, linear, self._tables_lost, damaged=spaces.damaged)

    def _tables_lost(self, why: str) -> None:
        meaning = "what they do not map of the linear map is read without them"
        self._problem(why, "the kernel's page tables", meaning)

    def read_some(self, address: int, size: int) -> bytes:
        """Up to `size` bytes at an effective address: as many as there are without a gap."""
        return read_some(self.space, address, size)

    def _problem(self, what: str, where: str, meaning: str) -> None:
        self._dump.problems.append(Problem(what, where, meaning))

    # --- symbols ---

    @cached_property
    def _kallsyms(self) -> Table | None:
        dump = self._dump
        memory = _Memory(self.space)
        table, problems = kallsyms.read(memory, dump.byte_order, dump.vmcoreinfo)
        dump.problems += problems if table is None else []
        return table

    @cached_property
    def symbols(self) -> Symbols:
        """Those in the dump, else those of the vmlinux; empty where there is neither."""
        if self._kallsyms is not None:
            return Symbols([self._kallsyms], "kallsyms", self._modules)
        for file in self.debuginfo:
            found = debuginfo.symbols(file.path) if file.is_kernel else None
            if found is not None:
                return Symbols([found], str(file.path), self._modules)
        return Symbols()

    def _modules(self) -> Iterator[Table]:
        """The symbols of modules, when the first address or name is not the kernel's own."""
        from phypan.linux import modules

        if self.types is None:
            return
        try:
            yield from modules.tables(self._dump)
        except PhypanError as error:
            self._problem(error.what, "modules", "their symbols are lost")

    # --- types ---

    @cached_property
    def btf(self) -> Btf | None:
        """The types that the kernel carries; None where it carries none."""
        for start, size in self._btf_places():
            try:
                found = Btf(self.read_some(start, size), self._dump.byte_order)
            except PhypanError as error:
                self._problem(error.what, f"BTF at {start:#x}", "it is left out")
                continue
            self._dump.problems += found.problems
            return found
        return None

    def _btf_places(self) -> Iterator[tuple[int, int]]:
        """(effective address, bytes) where BTF may be: by its symbols, else by its magic."""
        known = Symbols([self._kallsyms] if self._kallsyms else [])
        start, end = (known.address(f"__{name}_BTF") for name in ("start", "stop"))
        if start is not None and end is not None and 0 < end - start < _IMAGE:
            yield start, end - start
            return
        order = self._dump.byte_order
        info = self._dump.vmcoreinfo
        begin = (info.symbol("_stext") if info else None) or 0xC << 60
        image = self.read_some(begin, _IMAGE)
        magic = btf_format.MAGIC.to_bytes(2, order) + b"\1\0"
        at = image.find(magic)
        while at >= 0:
            size = btf_format.looks_like(image[at : at + btf_format.HEADER_SIZE], order)
            if size is not None and at + size <= len(image):
                yield begin + at, size
            at = image.find(magic, at + 1)

    @cached_property
    def types(self) -> Types | None:
        """Where types are from; None where there are none."""
        if any(file.is_kernel for file in self.debuginfo):
            return "DWARF"
        return "BTF" if self.btf is not None else None

    @cached_property
    def debuginfo(self) -> Sequence[DebugFile]:
        """The debuginfo that is used: what was given, or was found for a kernel without BTF.

        Raises InputError for a vmlinux that is of another kernel.
        """
        if self._dump.debuginfo:
            files = [debuginfo.inspect(path) for path in self._dump.debuginfo]
            for file in files:
                self._check(file)
            return files
        if self.btf is not None:
            return []
        info = self._dump.vmcoreinfo
        places = debuginfo.usual_places(info.build_id, info.release) if info else iter(())
        return [file for file in map(_inspected, places) if file and self._same(file)][:1]

    def _check(self, file: DebugFile) -> None:
        if not file.is_kernel or self._dump.force or self._same(file):
            return
        info = self._dump.vmcoreinfo
        ours = (info.build_id if info else None) or "unknown"
        raise InputError(
            f"it is of another kernel: build id {file.build_id}, the crashed one's is {ours}",
            where=str(file.path),
            hint="find the debuginfo of the same build, or use this one with --force",
        )

    def _same(self, file: DebugFile) -> bool:
        """Whether a vmlinux is of the crashed kernel: by build id, else by the banner.

        Some releases of 2024 print a build id that is none (Linux 905415ff3ffb, backported), so
        another id is not believed when the banner, which has the time of the build, is the same.
        """
        info = self._dump.vmcoreinfo
        if info is not None and file.build_id and info.build_id == file.build_id:
            return True
        return file.banner is not None and file.banner == self.banner

    @cached_property
    def banner(self) -> bytes | None:
        """linux_banner, with its newline: it names release, compiler and time of the build."""
        memory = self._dump.memory
        for place in memory.find(b"Linux version ", 0, 1 << 28):
            found = _BANNER.match(memory.view(place, min(512, memory.at(place).size)))
            if found:
                return found[0].rstrip(b"\0")
        return None

    # --- drgn ---

    @cached_property
    def program(self) -> drgn.Program:
        """The kernel as drgn sees it. Unsupported where drgn or VMCOREINFO is missing."""
        program.need_drgn()
        made = program.new(self.open_core())
        program.add_memory(made, self._dump.memory, self.space)
        self.teach(made)
        translate.install(made, self._dump)
        if self.debuginfo:
            program.load(made, self.debuginfo, force=self._dump.force)
        return made

    def open_core(self) -> int:
        """A file descriptor of a core file for drgn: registers, VMCOREINFO and no memory."""
        dump = self._dump
        info = program.complete(dump, self.symbols, self.banner)
        return core.open_core(dump.cpus, info.text, dump.byte_order)

    def teach(self, made: drgn.Program) -> None:
        """Answer what `made` asks for by name, where its own finders have no answer."""
        from phypan.linux.objects import Finders
        from phypan.linux.types import BtfTypes

        btf = self.btf if self.types == "BTF" else None
        types = [] if btf is None else [BtfTypes(made, btf)]
        Finders(self.symbols, types, partial(self._module_types, types)).register(made)

    def _module_types(self, base: list[BtfTypes]) -> Iterator[BtfTypes]:
        """The types of modules, when the first is asked for that vmlinux does not have."""
        from phypan.linux import modules

        if not base:
            return
        try:
            yield from modules.types(self._dump, base[0])
        except PhypanError as error:
            self._problem(error.what, "modules", "their types are lost")


class _Memory:
    """The kernel's memory, as kallsyms is read from it."""

    def __init__(self, space: Space) -> None:
        self.read = space.read
        self._space = space

    def read_some(self, address: int, size: int) -> bytes:
        return read_some(self._space, address, size)


def _inspected(path: Path) -> DebugFile | None:
    try:
        return debuginfo.inspect(path) if path.is_file() else None
    except PhypanError:
        return None
