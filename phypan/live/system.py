"""Live: how a running kernel shows the dump that its predecessor left, and gives memory back.

    phyp    2.6.26 to 3.3: sys/kernel/release_region; /proc/vmcore is memory by physical address
            (Documentation/powerpc/phyp-assisted-dump.txt, phyp_dump.c)
    fadump  3.4 to today: /proc/vmcore is an ELF core, sys/kernel/fadump/release_mem gives all of
            it back at once, sys/kernel/fadump/registered has the next crash dumped
            (firmware-assisted-dump.rst, ABI/testing/sysfs-kernel-fadump); on bare metal
            sys/firmware/opal/mpipl/core is the firmware's own part of it
    kdump   a crash kernel that kexec started: /proc/vmcore, and nothing is given back

Paths are below a root, which is "/" or where the model's second boot is mounted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phypan.errors import InputError, OutputError, Problem, os_errors
from phypan.formats import elfcore, release_region
from phypan.formats.kernel_dump import KernelDump, SectionType
from phypan.formats.release_region import Pair, ReleaseRegion
from phypan.live.release_plan import Reservation

Mechanism = Literal["phyp", "fadump", "kdump"]
# newest name first
_FADUMP = {
    name: (f"sys/kernel/fadump/{name}", f"sys/kernel/fadump_{name}")
    for name in ("enabled", "registered", "mem_reserved", "release_mem")
}
_PAGE = 4096  # bytes: the smallest page; what is reserved for fadump is whole pages and a header
RELEASE_REGION = "sys/kernel/release_region"
VMCORE = "proc/vmcore"
OPAL_CORE, OPAL_RELEASE = "sys/firmware/opal/mpipl/core", "sys/firmware/opal/mpipl/release_core"


class NoDump(InputError):
    """No dump is waiting in the system; exit code 4."""

    exit_code = 4

    def __init__(self, root: Path) -> None:
        hint = "`phypan status` shows what there is"
        super().__init__("no dump is waiting", where=str(root), hint=hint)


@dataclass(frozen=True)
class LiveSystem:
    """A running system, as its files show it.

    root        where these files are
    mechanism   how the dump that waits was made; None when none waits
    memory      the file that shows the crashed partition's memory
    registered  whether another crash would be dumped; None if nothing says
    boot_id     of this boot; None if nothing says
    """

    root: Path
    mechanism: Mechanism | None
    memory: Path | None
    registered: bool | None
    boot_id: str | None

    @property
    def regions(self) -> tuple[Path, ...]:
        """Files that say what the firmware preserved and where (see phypan.read_regions)."""
        names = ("sys/firmware/fdt", "proc/device-tree", RELEASE_REGION)
        found = [self.root / name for name in names if _there(self.root / name)]
        # The flattened tree is whole; the directory stands in for it on kernels before 3.17.
        return tuple(found[1:] if len(found) == len(names) else found)

    @property
    def reserved(self) -> int | None:
        """Bytes that are held back because of dumps; None if nothing says.

        Of phyp dump without the save area, as release_region tells.
        """
        if self.mechanism == "phyp":
            text = self.release_region()
            return text.rest.length if text and text.rest else None
        return self.fadump_area

    @property
    def fadump_area(self) -> int | None:
        """Bytes that a kernel of fadump holds back for the next dump; None if nothing says."""
        told = _text(self.root, *_FADUMP["mem_reserved"])
        with suppress(ValueError):
            return None if told is None else int(told, 0)
        return None

    @property
    def waiting(self) -> int | None:
        """Bytes that /proc/vmcore shows of the dump that waits; None if nothing says."""
        if self.mechanism is None or self.memory is None:
            return None
        with suppress(OSError):
            return self.memory.stat().st_size or None
        return None

    @property
    def opal_core(self) -> Path | None:
        """The firmware's own core file, where there is one."""
        path = self.root / OPAL_CORE
        return path if _there(path) else None

    def release_region(self) -> ReleaseRegion | None:
        """What the kernel of phyp dump says; BadRecord when it is not that."""
        text = _text(self.root, RELEASE_REGION)
        return None if text is None else release_region.read(text)


def status(root: str | os.PathLike[str] = "/") -> LiveSystem:
    """What the system shows whose files are below `root`: whether a dump waits, how it was made.

    Raises InputError if `root` is no directory.
    """
    base = Path(root)
    if not base.is_dir():
        raise InputError("not a directory", where=str(base), hint="name a mounted system, or /")
    fadump, vmcore = _fadump_release(base), base / VMCORE
    mechanism: Mechanism | None = None
    memory: Path | None = vmcore if _there(vmcore) else None
    if _there(base / RELEASE_REGION):
        mechanism = "phyp"
        memory = memory or base / "dev/mem"
    elif memory is not None and _starts_with(memory, elfcore.MAGIC):
        mechanism = "fadump" if fadump is not None else "kdump"
    boot_id = _text(base, "proc/sys/kernel/random/boot_id")
    return LiveSystem(base, mechanism, memory, _registered(base), boot_id and boot_id.strip())


def _registered(root: Path) -> bool | None:
    told = [
        _text(root, *names)
        for names in (
            _FADUMP["registered"],
            ("sys/kernel/phyp_dump_active",),
            ("sys/kernel/kexec_crash_loaded",),
        )
    ]
    known = [text.strip() for text in told if text is not None]
    return None if not known else any(text not in ("", "0") for text in known)


def _fadump_release(root: Path) -> Path | None:
    return next((root / name for name in _FADUMP["release_mem"] if _there(root / name)), None)


def _there(path: Path) -> bool:
    with suppress(OSError):
        return path.exists()
    return False


def _starts_with(path: Path, magic: bytes) -> bool:
    with suppress(OSError), path.open("rb", buffering=0) as file:
        return file.read(len(magic)) == magic
    return False


def _text(root: Path, *names: str) -> str | None:
    """The text of the first of these files that can be read."""
    for name in names:
        with suppress(OSError), (root / name).open("rb") as file:
            return file.read(65536).decode("ascii", "replace")
    return None


def reservation(
    system: LiveSystem, dump: KernelDump | None, memory_end: int
) -> tuple[Reservation | None, list[Problem]]:
    """(what the kernel of phyp dump holds back, what is odd about it); None when it is unknown.

    dump        the structure that the firmware filled in: the kernel takes its save area from it
    memory_end  physical address at which memory ends, as the device tree says
    """
    text = system.release_region()
    problems: list[Problem] = []
    if dump is None or text is None or text.rest is None:
        what, meaning = "does not say what is reserved", "memory cannot be given back"
        return None, [Problem(what, str(system.root / RELEASE_REGION), meaning)]
    kinds = (SectionType.CPU_STATE, SectionType.HPTE, SectionType.REAL_MODE_REGION)
    sections = [section for kind in kinds for section in dump.of_type(kind)[:1]]
    area = sections[0].destination if sections else 0
    area_size = sum(section.length for section in sections)
    found = Reservation(text.rest.start, text.rest.length + area_size, area, area_size)
    where = str(system.root / RELEASE_REGION)
    if found.end != memory_end:
        what = f"reserved memory ends at {found.end:#x}, memory at {memory_end:#x}"
        problems.append(Problem(what, where, "the kernel's own numbers were used to give it back"))
    if not found.sound:
        what = f"the save area at {area:#x} is not in the reserved memory"
        problems.append(Problem(what, where, "memory cannot be given back"))
        return None, problems
    return found, problems


def give_back(system: LiveSystem, pair: Pair) -> None:
    """Have the kernel of phyp dump free a range. OutputError when it refuses."""
    _write(system.root / RELEASE_REGION, release_region.write_release(pair).encode() + b"\n")


def give_all_back(system: LiveSystem, *, opal_saved: bool = False) -> None:
    """Have the kernel of fadump free everything. For the next crash nothing is registered then.

    opal_saved  OPAL's own core goes as well
    """
    release = _fadump_release(system.root)
    if release is None:
        raise OutputError(
            "gives no memory back", where=str(system.root), hint="only phyp and fadump kernels do"
        )
    if opal_saved and _there(system.root / OPAL_RELEASE):
        _write(system.root / OPAL_RELEASE, b"1\n")
    _write(release, b"1\n")


def register(system: LiveSystem) -> None:
    """Have the kernel of fadump register for the next crash, unless it has. It gave all back.

    It does so by itself when it boots, but not when it has freed a dump: that is left to whoever
    had it freed (registered_store() in fadump.c).

    Raises OutputError when it refuses, and where it must not be asked: since 6.10 what it reserves
    ends with the header of the next dump, in the middle of a page, and fadump_release_memory()
    frees that page as well. To register writes the header there, whosever the page is by then;
    and when it is written to, the next boot finds "Fadump header is corrupted" and drops the dump.
    """
    if _registered(system.root) is not False:
        return
    reserved = system.fadump_area
    if reserved is not None and reserved % _PAGE:
        raise OutputError(
            f"it has freed the page that the next dump's header is kept in ({reserved:#x} bytes "
            "are reserved, which end inside of a page)",
            where=str(system.root / _FADUMP["registered"][0]),
            hint="the next boot registers",
        )
    found = [system.root / name for name in _FADUMP["registered"]]
    _write(next((path for path in found if _there(path)), found[0]), b"1\n")


def _write(path: Path, data: bytes) -> None:
    with os_errors(OutputError, path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
