"""Migration stream: what QEMU knows of a stopped guest, registers and hashed page table first.

QEMU docs/devel/migration/main.rst ("Stream structure"), migration/savevm.c, migration/ram.c and
hw/ppc/spapr.c (section "spapr/htab") of 11.1; the same back to 4.0. Integers are big-endian.
Devices' sections are read by the description that ends the stream (vmstate.py).

With the capability x-ignore-shared a stream holds no memory that is a shared file; memory that it
does hold is stepped over: phypan keeps the guest's memory in a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from phypan.errors import BadRecord
from phypan.formats._records import Bytes
from phypan.platform.qemu import vmstate
from phypan.platform.qemu.vmstate import WHERE, Reader, State

MAGIC, VERSION = b"QEVM", 3
(
    _EOF, _SECTION_START, _SECTION_PART, _SECTION_END, _SECTION_FULL, _SUBSECTION, _DESCRIPTION,
    _CONFIGURATION, _COMMAND,
) = range(9)  # fmt: skip
_FOOTER = 0x7E
_ZERO, _MEM_SIZE, _PAGE, _EOS, _CONTINUE, _MULTIFD_FLUSH = 0x02, 0x04, 0x08, 0x10, 0x20, 0x200
_NO_TABLE = 0xFFFFFFFF  # instead of the table's size: the guest has no hashed page table
_MAX_SHIFT = 46  # Power ISA: the largest table is of 2^46 bytes
_HPTE_SIZE = 16


@dataclass
class Stream:
    """What is in a stream.

    machine    QEMU's name of the machine type
    hpt_shift  binary logarithm of the size of the hashed page table in bytes; None if there is none
    hpt        its valid entries by index, 16 bytes each, big-endian
    devices    state of each device by (name, instance)
    ram        (name, bytes) of the blocks of memory
    """

    machine: str = ""
    hpt_shift: int | None = None
    hpt: dict[int, bytes] = field(default_factory=dict)
    devices: dict[tuple[str, int], State] = field(default_factory=dict)
    ram: list[tuple[str, int]] = field(default_factory=list)

    def cpus(self) -> list[State]:
        """The state of each CPU, in ascending order of their numbers."""
        names = sorted(key for key in self.devices if key[0] == "cpu")
        return [self.devices[key] for key in names]

    def device_tree(self) -> bytes | None:
        """The flattened device tree that the guest was booted with last."""
        tree = self.devices.get(("spapr", 0), {}).get("spapr_dtb", {}).get("fdt_blob")
        return bytes.fromhex(tree) if isinstance(tree, str) else None


def read(data: Bytes) -> Stream:
    """The stream in `data`; BadRecord when it is damaged or of another kind."""
    return _Parser(data).stream()


class _Parser:
    """Sections in, a Stream out."""

    def __init__(self, data: Bytes) -> None:
        self._in = Reader(data)
        self._page_size = 4096
        self._ignores_shared = False
        self._sections: dict[int, tuple[str, int]] = {}
        self._out = Stream()
        if bytes(self._in.data[:4]) != MAGIC:
            raise BadRecord("it does not begin with QEVM", where=WHERE)
        self._devices = vmstate.descriptions(data)

    def stream(self) -> Stream:
        self._in.take(4)
        if (version := self._in.number(4)) != VERSION:
            raise self._in.bad(f"version {version}, not {VERSION}")
        while (kind := self._in.number(1)) != _EOF:
            if kind == _CONFIGURATION:
                self._configuration()
            elif kind == _COMMAND:
                self._in.take(2)
                self._in.take(self._in.number(2))
            elif _SECTION_START <= kind <= _SECTION_FULL:
                self._section(kind)
            else:
                raise self._in.bad(f"a section of unknown type {kind:#x}")
        return self._out

    def _configuration(self) -> None:
        self._out.machine = self._in.text(self._in.number(4))
        while self._in.next_is(_SUBSECTION):
            self._in.take(1)
            name = self._in.counted()
            self._in.take(4)  # version
            if name == "configuration/target-page-bits":
                self._page_size = 1 << self._in.count(self._in.number(4), 30, "page bits")
            elif name == "configuration/capabilities":
                names = [self._in.counted() for _ in range(self._in.count(self._in.number(4)))]
                self._ignores_shared = "x-ignore-shared" in names
            else:
                raise self._in.bad(f"unknown configuration {name!r}")

    def _section(self, kind: int) -> None:
        number = self._in.number(4)
        if kind in (_SECTION_START, _SECTION_FULL):
            name, instance = self._in.counted(), self._in.number(4)
            self._in.take(4)  # version
            self._sections[number] = name, instance
        elif number not in self._sections:
            raise self._in.bad(f"section {number} goes on and has not begun")
        name, instance = self._sections[number]
        if name == "ram":
            self._ram()
        elif name == "spapr/htab":
            self._hashed_page_table(kind)
        else:
            self._device(name, instance)
        if self._in.next_is(_FOOTER):
            self._in.take(1)
            if self._in.number(4) != number:
                raise self._in.bad(f"the end of section {number} names another one")

    def _device(self, name: str, instance: int) -> None:
        if (name, instance) not in self._devices:
            raise self._in.bad(f"section {name!r} is not described")
        described = self._devices[name, instance]
        self._out.devices[name, instance] = vmstate.read(self._in, described)

    # -- memory ---------------------------------------------------------------------------------

    def _ram(self) -> None:
        while True:
            word = self._in.number(8)
            address, flags = word & -self._page_size, word & (self._page_size - 1)
            if flags & _EOS:
                return
            if flags & _MEM_SIZE:
                self._blocks(address)
            elif flags & (_ZERO | _PAGE):
                if not flags & _CONTINUE:
                    self._in.counted()  # name of the block
                self._in.take(1 if flags & _ZERO else self._page_size)
            elif not flags & _MULTIFD_FLUSH:
                raise self._in.bad(f"unknown flags {flags:#x} of a page")

    def _blocks(self, size: int) -> None:
        while size > 0:
            name, length = self._in.counted(), self._in.number(8)
            if not length:
                raise self._in.bad(f"block {name!r} of memory is empty")
            if self._ignores_shared:
                self._in.take(8)  # its address in the guest
            self._out.ram.append((name, length))
            size -= length

    # -- the hashed page table ------------------------------------------------------------------

    def _hashed_page_table(self, kind: int) -> None:
        shift = self._in.number(4)
        if shift == _NO_TABLE:
            return
        if kind == _SECTION_START:
            if shift:
                self._out.hpt_shift = self._in.count(shift, _MAX_SHIFT, "bits of a page table")
            return
        if self._out.hpt_shift is None:
            raise self._in.bad("entries of a page table that has no size")
        slots = (1 << self._out.hpt_shift) // _HPTE_SIZE
        while True:
            index, valid, invalid = (self._in.number(size) for size in (4, 2, 2))
            if not (index or valid or invalid):
                return
            if index + valid + invalid > slots:
                raise self._in.bad(f"entry {index + valid + invalid - 1} of {slots}")
            self._entries(index, valid, invalid)

    def _entries(self, index: int, valid: int, invalid: int) -> None:
        """Valid entries as they are, behind them some that are valid no more."""
        for at in range(index, index + valid):
            self._out.hpt[at] = bytes(self._in.take(_HPTE_SIZE))
        for at in range(index + valid, index + valid + invalid) if self._out.hpt else ():
            self._out.hpt.pop(at, None)
