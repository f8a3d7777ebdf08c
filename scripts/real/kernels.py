"""Kernels: Debian's own, and those built from Debian's source, each with the module phypan_crash.

Debian's kernels for ppc64el have no CONFIG_FA_DUMP, and there are none for big-endian: those are
built. A kernel's folder holds

    vmlinux          to boot: without DWARF, with .symtab and .BTF where it has them
    vmlinux.debug    with DWARF (of Debian's kernels in a piece of its own, NAME-debug)
    config
    headers/         what a module is built against (and, of built ones, where they were built)
    modules/         some of its modules, uncompressed, and "order": how to load them
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import debian
from debian import ArchiveError, command
from workshop import ROOT, Piece, Workshop

CONFIG = Path(__file__).with_name("kernel.config")
MODULE = ROOT / "phypan" / "platform" / "qemu" / "guest" / "module"
MODULE_FILES = tuple(MODULE / name for name in ("phypan_crash.c", "Makefile"))
LE, BE = "powerpc64le-linux-gnu-", "powerpc64-linux-gnu-"
_BUILD = ("make", "bc", "bison", "flex", "pahole", "xz")
_WANTED = "loop dummy veth crc32c_generic ext4 overlay virtio_pci virtio_blk".split()


@dataclass(frozen=True)
class Built:
    """A kernel built here.

    source  the piece with its source
    """

    name: str
    source: str
    byte_order: str
    page_size: int

    @property
    def cross(self) -> str:
        """Prefix of the compiler."""
        return LE if self.byte_order == "little" else BE

    def pieces(self) -> Iterator[Piece]:
        """The kernel, and its module."""
        what = f"{self.source}, {self.byte_order}-endian, {self.page_size // 1024}K pages"
        programs = (*_BUILD, f"{self.cross}gcc")
        yield Piece(
            self.name, f"kernel from {what}", self.make, (self.source,), (CONFIG,), programs,
            ("libelf-dev", "libssl-dev"),
        )  # fmt: skip
        yield Piece(
            f"{self.name}-module", f"phypan_crash for {self.name}", self.make_module,
            (self.name,), MODULE_FILES, programs,
        )  # fmt: skip

    def _make(self, shop: Workshop, build: Path, log: str, *words: object) -> None:
        compiler = f"{self.cross}gcc"
        if shutil.which("ccache"):
            compiler = f"ccache {compiler}"
        command(
            "make", "-s", "ARCH=powerpc", f"CROSS_COMPILE={self.cross}", f"CC={compiler}",
            f"O={build}", f"-j{os.cpu_count()}", *words,
            cwd=shop.path(self.source) / "tree", log=shop.log(log),
            environment={
                "KCONFIG_ALLCONFIG": str(build / "fragment"),
                "KBUILD_BUILD_USER": "phypan", "KBUILD_BUILD_HOST": "phypan",
                "CCACHE_DIR": str(shop.folder / "ccache"),
            },
        )  # fmt: skip

    def make(self, shop: Workshop, folder: Path) -> dict[str, str]:
        """Configure and build."""
        build = folder / "headers"
        build.mkdir()
        fragment = CONFIG.read_text() + "".join(f"{line}\n" for line in self._lines())
        (build / "fragment").write_text(fragment)
        self._make(shop, build, self.name, "allnoconfig")
        config = (build / ".config").read_text()
        _check(fragment, config, shop.path(self.source) / "tree")
        self._make(shop, build, self.name, "vmlinux", "modules")
        shutil.copy(build / ".config", folder / "config")
        (build / "vmlinux").rename(folder / "vmlinux.debug")
        strip = f"{self.cross}strip"
        command(strip, "--strip-debug", "-o", folder / "vmlinux", folder / "vmlinux.debug")
        (folder / "modules").mkdir()
        (folder / "modules" / "order").write_text("")
        _trim(build)
        release = (build / "include" / "config" / "kernel.release").read_text().strip()
        return {"release": release}

    def _lines(self) -> Iterator[str]:
        """What is particular to this kernel."""
        yield f"CONFIG_CPU_{self.byte_order.upper()}_ENDIAN=y"
        yield f"CONFIG_PPC_{self.page_size // 1024}K_PAGES=y"
        yield f'CONFIG_LOCALVERSION="-phypan-{self.name.split("-")[-1]}"'
        if self.byte_order == "big":
            yield "CONFIG_PPC64_ELF_ABI_V1=y"

    def make_module(self, shop: Workshop, folder: Path) -> dict[str, str]:
        """The module, against the tree that the kernel was built in."""
        for file in MODULE_FILES:
            shutil.copy(file, folder)
        headers = shop.path(self.name) / "headers"
        if not (headers / "vmlinux").is_symlink():
            (headers / "vmlinux").symlink_to("../vmlinux.debug")  # the module's BTF builds on it
        self._make(shop, headers, f"{self.name}-module", f"M={folder}", "modules")
        return _only_the_module(folder, self.cross)


def _check(fragment: str, config: str, source: Path) -> None:
    """ArchiveError when the kernel's configuration does not do what was asked."""
    lines = set(config.splitlines())
    for line in fragment.splitlines():
        name, _, value = line.partition("=")
        if not line.startswith("CONFIG_"):
            continue
        fits = line in lines if value != "n" else not any(x.startswith(f"{name}=") for x in lines)
        if not fits and _is_known(name.removeprefix("CONFIG_"), source):
            raise ArchiveError(f"the kernel cannot be configured with {line}")


def _is_known(name: str, source: Path) -> bool:
    """Whether this kernel has the option at all: some come and go."""
    declared = re.compile(rf"^(?:menu)?config {name}$", re.MULTILINE)
    return any(declared.search(file.read_text()) for file in source.rglob("Kconfig*"))


def _trim(build: Path) -> None:
    """Leave of a build what modules are built against."""
    for file in build.rglob("*"):
        inside = file.relative_to(build).parts
        if file.suffix in (".o", ".a") and inside[0] not in ("scripts", "tools"):
            if file.name != "crtsavres.o":
                file.unlink()
        elif file.name.startswith((".tmp_vmlinux", "vmlinux")) and len(inside) == 1:
            file.unlink()


def _only_the_module(folder: Path, cross: str) -> dict[str, str]:
    command(f"{cross}strip", "--strip-debug", folder / "phypan_crash.ko")
    for file in folder.iterdir():
        if file.name != "phypan_crash.ko":
            file.unlink()
    return {}


@dataclass(frozen=True)
class Debians:
    """A kernel as Debian ships it, little-endian.

    package  the one that depends on the newest kernel of its kind
    """

    name: str
    suite: str
    package: str

    def pieces(self) -> Iterator[Piece]:
        """The kernel, its module, and the kernel with DWARF."""
        what = f"{self.package} of {self.suite}"
        yield Piece(self.name, f"kernel: {what}", self.make, programs=("dpkg", "xz", "modinfo"))
        yield Piece(
            f"{self.name}-module", f"phypan_crash for {self.name}", self.make_module,
            (self.name,), MODULE_FILES, ("make", f"{LE}gcc"),
        )  # fmt: skip
        yield Piece(
            f"{self.name}-debug", f"debug package of {what}", self.make_debug, (self.name,),
            default=self.suite == "bookworm",
        )  # fmt: skip

    def make(self, shop: Workshop, folder: Path) -> dict[str, str]:
        """Kernel, some modules, headers."""
        archive = shop.archive("ppc64el", self.suite)
        image = archive.depends(self.package, r"linux-image-[0-9]\S+")
        release = image.removeprefix("linux-image-")
        # Newer ones are in parts: the image package has nothing but scripts.
        parts = [
            image,
            *archive.depends_all(image, rf"linux-(?:binary|modules)-{re.escape(release)}"),
        ]
        tree = folder / "tree"
        debian.unpack(archive.fetch(*parts), tree)
        kernel = [*tree.glob("boot/vmlinux-*"), *tree.glob(f"usr/lib/modules/{release}/vmlinu?")]
        shutil.copy(kernel[0], folder / "vmlinux")
        _modules(tree, folder / "modules")
        shutil.rmtree(tree)
        self._headers(shop, release, folder / "headers")
        config = folder / "headers" / f"usr/src/linux-headers-{release}/.config"
        shutil.copy(config, folder / "config")
        return {"release": release, "package": archive.version(image)}

    def _headers(self, shop: Workshop, release: str, into: Path) -> None:
        """Headers, with the programs of kbuild for this machine in place of POWER's."""
        archive = shop.archive("ppc64el", self.suite)
        headers = f"linux-headers-{release}"
        needs = archive.depends_all(headers, r"linux-(?:headers|kbuild)-[0-9]\S*")
        kbuild = [name for name in needs if "kbuild" in name]
        others = [headers, *(name for name in needs if name not in kbuild)]
        native = shop.archive("native", self.suite)
        debian.unpack([*archive.fetch(*others), *native.fetch(*kbuild)], into)
        makefile = into / "usr/src" / headers / "Makefile"
        (into / "Makefile.debian").write_text(makefile.read_text())
        debian.unpack(native.fetch_all("libc6"), into / "libc")

    def make_module(self, shop: Workshop, folder: Path) -> dict[str, str]:
        """The module, with this machine's compiler, which may be older than the kernel's."""
        top = shop.path(self.name) / "headers"
        release = str(shop.known(self.name)["release"])
        headers = top / "usr/src" / f"linux-headers-{release}"
        text = (top / "Makefile.debian").read_text()
        (headers / "Makefile").write_text(text.replace("/usr/src", f"{top}/usr/src"))
        for program in ("basic/fixdep", "mod/modpost"):
            _with_its_libc((headers / "scripts").resolve() / program, top / "libc")
        for file in MODULE_FILES:
            shutil.copy(file, folder)
        command(
            "make", "-s", "ARCH=powerpc", f"CROSS_COMPILE={LE}", f"CC={LE}gcc",
            # What an older compiler has no options for; none of it changes a structure.
            "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=", "CC_FLAGS_FTRACE=",
            "CONFIG_DEBUG_INFO_BTF_MODULES=", f"M={folder}", "modules",
            cwd=headers, log=shop.log(f"{self.name}-module"),
        )  # fmt: skip
        return _only_the_module(folder, LE)

    def make_debug(self, shop: Workshop, folder: Path) -> dict[str, str]:
        """The kernel with DWARF, out of a package of many hundred MB."""
        archive = shop.archive("ppc64el", self.suite)
        image = f"linux-image-{shop.known(self.name)['release']}-dbg"
        (package,) = archive.fetch(image)
        debian.member(package, "./usr/lib/debug/*/vmlinux*", folder / "vmlinux.debug")
        return {"package": archive.version(image)}


def _with_its_libc(program: Path, libc: Path) -> None:
    """Make a program of another release of Debian run with the libc of that release.

    Debian's modpost chooses the real one by the kernel; the choice is made here.
    """
    real = program.with_name(program.name + ".real-lsb-64")
    if not real.exists():
        real = program.with_name(program.name + ".real")
        if not real.exists():
            program.rename(real)
    (loader,) = (libc / "lib64").glob("ld-linux*")
    paths = ":".join(str(folder) for folder in libc.glob("usr/lib/*-linux-gnu"))
    host = ":".join(str(folder) for folder in Path("/usr/lib").glob("*-linux-gnu"))
    program.write_text(f'#!/bin/sh\nexec {loader} --library-path {paths}:{host} {real} "$@"\n')
    program.chmod(0o755)


def _modules(tree: Path, into: Path) -> None:
    """Modules that the guest can use, uncompressed, and in which order they are loaded."""
    into.mkdir()
    there = {file.name.split(".ko")[0].replace("-", "_"): file for file in tree.rglob("*.ko*")}
    order: list[str] = []
    for name in _WANTED:
        _with_what_it_needs(name, there, order)
    for name in order:
        command("cp", there[name], into)
        if there[name].suffix == ".xz":
            command("xz", "-d", into / there[name].name)
        (into / there[name].name.removesuffix(".xz")).rename(into / f"{name}.ko")
    (into / "order").write_text("".join(f"{name}.ko\n" for name in order))


def _with_what_it_needs(name: str, there: dict[str, Path], order: list[str]) -> None:
    """Put a module behind what it depends on. What is not there is built in, or not at all."""
    if name in order or name not in there:
        return
    needs = debian.output(["modinfo", "-F", "depends", str(there[name])]).strip()
    for need in filter(None, needs.split(",")):
        _with_what_it_needs(need.replace("-", "_"), there, order)
    order.append(name)


@dataclass(frozen=True)
class Source:
    """Debian's linux-source, unpacked."""

    name: str
    suite: str

    def pieces(self) -> Iterator[Piece]:
        """The source."""
        yield Piece(self.name, f"kernel source of {self.suite}", self.make, programs=("xz",))

    def make(self, shop: Workshop, folder: Path) -> dict[str, str]:
        """Unpack it into `tree`."""
        archive = shop.archive("native", self.suite)
        package = archive.depends("linux-source", r"linux-source-[0-9.]+")
        (file,) = archive.fetch(package)
        packed = folder / "source.tar.xz"
        debian.member(file, "./usr/src/*.tar.xz", packed)
        (folder / "tree").mkdir()
        command("tar", "-xf", packed, "-C", folder / "tree", "--strip-components=1")
        packed.unlink()
        version = archive.version(package)
        wanted = re.search(r"[0-9.]+$", self.name)
        if wanted and not version.startswith(wanted[0]):
            raise ArchiveError(f"{self.suite} has {version}, not {self.name}")
        return {"version": version}


SOURCES = (Source("linux-source-6.12", "trixie"),)
BUILT = (
    Built("6.12-le64k", "linux-source-6.12", "little", 65536),
    Built("6.12-le4k", "linux-source-6.12", "little", 4096),
    Built("6.12-be64k", "linux-source-6.12", "big", 65536),
)
DEBIANS = (
    Debians("debian-6.1", "bookworm", "linux-image-powerpc64le"),
    Debians("debian-newest", "sid", "linux-image-powerpc64le-64k"),
)
PIECES = tuple(piece for maker in (*SOURCES, *BUILT, *DEBIANS) for piece in maker.pieces())
