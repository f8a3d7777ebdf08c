"""The second boot: a kernel in little memory, and the files in which it shows what was preserved.

The files of phyp dump are those of Documentation/powerpc/phyp-assisted-dump.txt and arch/powerpc/
platforms/pseries/phyp_dump.c (3.0), those of fadump of firmware-assisted-dump.rst, fadump.c and
fs/proc/vmcore.c. Where the old kernel does otherwise than its document says, each such quirk has a
name and can be switched off.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from phypan.errors import BadRecord, PhypanError, Unsupported
from phypan.formats import device_tree as device_tree_format
from phypan.formats import fadump, release_region
from phypan.formats.kernel_dump import SectionType
from phypan.formats.release_region import Pair, ReleaseRegion
from phypan.platform import device_tree, page_flags, proc_vmcore
from phypan.platform import hypervisor as rtas
from phypan.platform.faults import Fault
from phypan.platform.files import File, bytes_file, directory, text_file
from phypan.platform.guest import Guest
from phypan.platform.hypervisor import Hypervisor
from phypan.platform.lpar import Lpar
from phypan.platform.reservation import Layout
from phypan.ranges import Ranges

FREED = 0xA7  # what memory is filled with once it is given back: somebody else's
KERNEL = 0x5B  # what the boot loader and the second kernel leave in low memory


class Quirk(Enum):
    """What the kernel of 2.6.26 to 3.3 does, against its own document."""

    OFFSETS = "offsets"  # release_region shows offsets, and lengths of zero
    ONE_PAGE_MORE = "one-page-more"  # a release frees the page behind what was asked for
    COMMAND_2 = "command-2"  # it invalidates with the command that LoPAR calls unregister


# The third is left out: a firmware that follows LoPAR refuses it, and no dump is registered anew.
DEFAULT_QUIRKS = frozenset({Quirk.OFFSETS, Quirk.ONE_PAGE_MORE})


def named(names: Iterable[str]) -> frozenset[Quirk]:
    """The quirks of these names; Unsupported if there is no such quirk."""
    try:
        return frozenset(Quirk(name) for name in names)
    except ValueError as error:
        known = ", ".join(quirk.value for quirk in Quirk)
        raise Unsupported(str(error), hint=f"there are: {known}") from None


@dataclass
class SecondBoot:
    """The partition after the crash.

    released   (start, size) of memory given back so far, physical addresses
    rounds     how often a dump was registered anew
    number     of this boot: the first one after the crash is 2
    given_tree the device tree where it is not the model's own
    on_free    called with (start, end) of memory that is given back, while it holds what it held
    """

    lpar: Lpar
    hypervisor: Hypervisor
    guest: Guest
    quirks: frozenset[Quirk] = DEFAULT_QUIRKS
    faults: frozenset[Fault] = frozenset()
    released: list[tuple[int, int]] = field(default_factory=list)
    rounds: int = 0
    number: int = 2
    given_tree: device_tree_format.Node | None = None
    on_free: Callable[[int, int], None] | None = None
    _given: Ranges = field(default_factory=Ranges)

    @property
    def layout(self) -> Layout:
        """Where the crashed kernel had its save area put."""
        return self.guest.layout

    def boot(self) -> None:
        """Load a boot loader and a kernel over low memory, and start it with little memory."""
        memory, boot = self.lpar.memory, self.reserve_start
        for start, size in ((0x4000, 0x8000), (0x400000, 0x500000), (boot - 0x100000, 0x100000)):
            memory.fill(start, min(size, boot - start), KERNEL)
        if Fault.OVERWRITTEN in self.faults:
            memory.fill(self.layout.start, 0x1000, KERNEL)
            memory.fill(self.layout.copy, 0x100000, KERNEL)
        self.lpar.say(f"second boot: {boot >> 20} MiB of memory are used, the rest is preserved")

    def files(self) -> Mapping[str, File]:
        """What the kernel shows, by path without the leading slash."""
        tree = self._tree()
        boot_id = uuid.uuid5(uuid.NAMESPACE_OID, f"{self.guest.banner} boot {self.number}")
        shown = {
            "sys/firmware/fdt": bytes_file(device_tree_format.write(tree)),
            "proc/sys/kernel/random/boot_id": bytes_file(f"{boot_id}\n".encode()),
            "proc/kpageflags": File(self._page_flags),
        }
        shown.update(directory("proc/device-tree", tree))
        return shown

    def _tree(self) -> device_tree_format.Node:
        """The device tree now: the dump is in it while it waits."""
        if self.given_tree is None:
            return device_tree.tree(self.hypervisor, phyp_names=self.phyp)
        if self.hypervisor.active is not None:
            return self.given_tree
        return device_tree.without_dump(self.given_tree)

    def _page_flags(self, offset: int, size: int) -> bytes:
        held = self._given.gaps(self.reserve_start, self.reserve_start + self.reserve_size)
        return page_flags.read(self.guest, self.lpar.memory.size, held, offset, size)

    @property
    def reserve_start(self) -> int:
        """Physical address from which on all memory is held back."""
        return self.guest.boot_memory

    @property
    def reserve_size(self) -> int:
        """Bytes held back, of which some may have been given back since."""
        return self.lpar.memory.size - self.reserve_start

    @property
    def phyp(self) -> bool:
        """Whether it is the kernel of phyp dump."""
        return self.guest.kernel.mechanism == "phyp"

    def free(self, start: int, size: int) -> None:
        """Give memory back: from now on somebody else writes to it."""
        end = min(start + size, self.lpar.memory.size)
        if start >= end:
            return
        self.released.append((start, end - start))
        for first, last in list(self._given.gaps(start, end)):  # what was given back stays so
            if self.on_free is not None:
                self.on_free(first, last)
            self.lpar.memory.fill(first, last - first, FREED)
        self._given.add(start, end)

    def register_again(self) -> bool:
        """Register for the next dump; whether the firmware took it."""
        done = self.guest.register()
        self.rounds += done
        return done


@dataclass
class PhypSecondBoot(SecondBoot):
    """The second kernel of phyp dump, 2.6.26 to 3.3."""

    _freed_reserved: int = 0
    _freed_scratch: int = 0

    @property
    def reserve_start(self) -> int:
        """Behind the memory that this kernel is left; prom.c, phyp_dump_reserve_mem()."""
        return self.guest.reservation.variable_reserve

    def files(self) -> Mapping[str, File]:
        """With release_region, and /proc/vmcore in which offsets are physical addresses."""
        shown = dict(super().files())
        memory = self.lpar.memory

        def vmcore(offset: int, size: int) -> bytes:
            return memory.read(offset, max(0, min(size, memory.size - offset)))

        shown["proc/vmcore"] = File(vmcore, None, memory.size)
        shown["sys/kernel/phyp_dump_active"] = text_file(lambda: "1\n")
        if self.hypervisor.active is not None:
            shown["sys/kernel/release_region"] = text_file(self._show, self._store)
        return shown

    def _show(self) -> str:
        scratch = self.scratch_size
        rest = Pair(self.reserve_start, self.reserve_size - scratch)
        active = self.hypervisor.active
        sections = active.sections if active is not None else ()
        cpu, hpte, low = (
            Pair(section.destination, section.dumped) for section in sections[:3]
        ) if len(sections) >= 3 else (Pair(0, 0),) * 3  # fmt: skip
        if Quirk.OFFSETS in self.quirks:
            base = self.layout.start
            cpu, hpte, low = (Pair(pair.start - base, 0) for pair in (cpu, hpte, low))
        return release_region.write(ReleaseRegion(cpu, hpte, low, rest))

    @property
    def scratch_size(self) -> int:
        """Bytes of the save area."""
        return self.layout.copy + self.layout.boot_memory - self.layout.start

    def _store(self, data: bytes) -> None:
        try:
            asked = release_region.read_release(data.decode("ascii"))
        except (BadRecord, UnicodeDecodeError) as error:
            raise PhypanError("invalid argument", where="release_region") from error
        self.release(asked)

    def release(self, asked: Pair) -> None:
        """Free a range; the kernel counts what was asked for, whatever it frees."""
        inside = self.reserve_start <= asked.start <= self.reserve_start + self.reserve_size
        if inside:
            self._freed_reserved += asked.length
        if inside and self.layout.start <= asked.start <= self.layout.start + self.scratch_size:
            self._freed_scratch += asked.length
        complete = (
            self._freed_reserved == self.reserve_size and self._freed_scratch == self.scratch_size
        )
        if complete:
            unregister = Quirk.COMMAND_2 in self.quirks
            self.guest.invalidate(rtas.UNREGISTER if unregister else rtas.INVALIDATE)
            self.register_again()
        start = max(asked.start, self.reserve_start)  # raised; the length stays what it was
        page = self.guest.page_size
        first, pages = start // page, asked.length // page
        pages += 1 if Quirk.ONE_PAGE_MORE in self.quirks else 0
        end = min((first + pages) * page, self.reserve_start + self.reserve_size)
        self.free(first * page, end - first * page)


class FadumpSecondBoot(SecondBoot):
    """The second kernel of firmware-assisted dump, 3.4 to today."""

    def files(self) -> Mapping[str, File]:
        """With /proc/vmcore, a core file, and fadump's own files."""
        shown = dict(super().files())
        vmcore = proc_vmcore.build(self.lpar, self.hypervisor, self.guest)
        if vmcore is not None:
            shown["proc/vmcore"] = File(vmcore.read, None, vmcore.size)
        shown["sys/kernel/fadump/release_mem"] = File(None, self._release, 0)  # it stays there
        reserved = self.layout.end - self.layout.start
        for name, value in (("enabled", 1), ("mem_reserved", reserved)):
            shown[f"sys/kernel/fadump/{name}"] = bytes_file(f"{value}\n".encode())
        shown["sys/kernel/fadump/registered"] = text_file(
            lambda: f"{int(self.hypervisor.registered is not None)}\n", self._set_registered
        )
        shown["sys/kernel/debug/powerpc/fadump_region"] = text_file(self._regions)
        return shown

    def _regions(self) -> str:
        active = self.hypervisor.active
        names = {SectionType.CPU_STATE: "CPU", SectionType.HPTE: "HPTE"}
        regions = [
            fadump.DebugRegion(
                names.get(section.type, "DUMP"),  # type: ignore[call-overload]
                section.destination,
                section.length,
                section.dumped,
                None if section.type in names else section.source,
            )
            for section in (active.sections if active else ())
            if section.type in (*names, SectionType.REAL_MODE_REGION)
        ]
        return fadump.write_debug_regions(regions, above=self.layout.boot_memory)

    def _release(self, data: bytes) -> None:
        """release_mem_store(): all at once, and nothing is registered then."""
        if self.hypervisor.active is None:
            raise PhypanError("operation not permitted", where="release_mem")
        if data.strip() != b"1":
            raise PhypanError("invalid argument", where="release_mem")
        start = self.layout.boot_memory
        self.free(start, self.lpar.memory.size - start)
        self.guest.invalidate(rtas.INVALIDATE)

    def _set_registered(self, data: bytes) -> None:
        """registered_store(): not while a dump waits."""
        if self.hypervisor.active is not None:
            raise PhypanError("operation not permitted", where="registered")
        if data.strip() not in (b"0", b"1"):
            raise PhypanError("invalid argument", where="registered")
        if self.hypervisor.registered is not None:
            self.guest.invalidate(rtas.UNREGISTER)
        if data.strip() == b"1" and not self.register_again():
            raise PhypanError("input/output error", where="registered")


def again(boot: SecondBoot) -> SecondBoot:
    """The boot after `boot`, of which nobody took the dump: everything is held back anew."""
    after = type(boot)(boot.lpar, boot.hypervisor, boot.guest, boot.quirks, boot.faults)
    after.number, after.on_free = boot.number + 1, boot.on_free
    after.boot()
    return after


def start(
    guest: Guest, *, quirks: Iterable[Quirk] = DEFAULT_QUIRKS, faults: frozenset[Fault]
) -> SecondBoot:
    """The second boot of the partition that `guest` died in."""
    kind = PhypSecondBoot if guest.kernel.mechanism == "phyp" else FadumpSecondBoot
    boot = kind(guest.lpar, guest.hypervisor, guest, frozenset(quirks), faults)
    boot.boot()
    return boot
