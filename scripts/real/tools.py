"""Programs: QEMU, a static busybox for each byte order, and the peers that read dumps.

Each is a folder with a program of the piece's name in it, which runs from there: with its own
libraries, or under qemu-user where it is a program for POWER.
"""

from __future__ import annotations

import os
from pathlib import Path

import debian
from debian import command
from workshop import ROOT, Piece, Workshop

BE = "powerpc64-linux-gnu"
_STABLE = "bookworm"  # whose sources this machine's cross compiler builds
_CRASH_LIBRARIES = (
    "libncurses-dev", "zlib1g-dev", "liblzo2-dev", "libsnappy-dev", "libzstd-dev", "libmpfr-dev",
    "libgmp-dev",
)  # fmt: skip
_UNDER_QEMU = 'exec qemu-ppc64-static "$here/crash.elf" "$@"'
_CRASH_NEEDS = ("g++", "make", "bison", "flex", "m4", "makeinfo", "patch", "dpkg-source")


def _script(path: Path, text: str) -> None:
    """A shell script that finds its own folder in $here."""
    path.write_text(f'#!/bin/sh\nhere=$(cd "$(dirname "$0")" && pwd)\n{text}\n')
    path.chmod(0o755)


def _first_line(*words: object) -> str:
    return debian.output([str(word) for word in words]).splitlines()[0]


def qemu(shop: Workshop, folder: Path) -> dict[str, str]:
    """QEMU, new enough to preserve memory, with all its libraries."""
    return _qemu(shop, folder, "trixie", "trixie-backports")


def qemu_old(shop: Workshop, folder: Path) -> dict[str, str]:
    """QEMU that preserves nothing: the model has to."""
    return _qemu(shop, folder, _STABLE)


def _qemu(shop: Workshop, folder: Path, *suites: str) -> dict[str, str]:
    archive = shop.archive("native", *suites)
    debian.unpack(archive.fetch_all("qemu-system-ppc", "qemu-system-data"), folder / "root")
    (loader,) = (path.name for path in (folder / "root/lib64").glob("ld-linux*"))
    (library,) = (path.name for path in (folder / "root/usr/lib").glob("*-linux-gnu"))
    _script(
        folder / "qemu-system-ppc64",
        f"r=$here/root\np=$r/usr/lib/{library}:$r/lib/{library}\n"
        f'exec "$r/lib64/{loader}" --library-path "$p" '
        '"$r/usr/bin/qemu-system-ppc64" -L "$r/usr/share/qemu" "$@"',
    )
    return {"version": _first_line(folder / "qemu-system-ppc64", "--version")}


def busybox_le(shop: Workshop, folder: Path) -> dict[str, str]:
    """Debian's static one."""
    archive = shop.archive("ppc64el", _STABLE)
    debian.unpack(archive.fetch("busybox-static"), folder / "root")
    (program,) = (path for path in folder.glob("root/**/bin/busybox") if not path.is_symlink())
    program.rename(folder / "busybox")
    command("rm", "-rf", folder / "root")
    return {"version": archive.version("busybox-static")}


def _unpacked_source(shop: Workshop, package: str, suite: str, into: Path) -> Path:
    """Debian's source of a package, patched as Debian builds it."""
    archive = shop.archive("native", suite)
    dsc = archive.source(package, into / "packed")
    command("dpkg-source", "--no-check", "-x", dsc, into / package)
    return into / package


def busybox_be(shop: Workshop, folder: Path) -> dict[str, str]:
    """Built from Debian's source: Debian has none for big-endian."""
    log, work = shop.log("busybox-be"), folder / "work"
    source = _unpacked_source(shop, "busybox", _STABLE, work)
    make = ("make", "-s", "ARCH=powerpc", f"CROSS_COMPILE={BE}-", f"-j{os.cpu_count()}")
    command(*make, "defconfig", cwd=source, log=log)
    config = source / ".config"
    text = config.read_text().replace("# CONFIG_STATIC is not set", "CONFIG_STATIC=y")
    # It does not build with the headers of newer kernels.
    config.write_text(text.replace("CONFIG_TC=y", "# CONFIG_TC is not set"))
    command(*make, "oldconfig", cwd=source, log=log)
    command(*make, cwd=source, log=log)
    (source / "busybox").rename(folder / "busybox")
    command("rm", "-rf", work)
    return {"version": shop.archive("native", _STABLE).version("busybox")}


def makedumpfile(shop: Workshop, folder: Path) -> dict[str, str]:
    """Debian's for ppc64el: it reads dumps of the architecture that it was built for."""
    archive = shop.archive("ppc64el", "sid")
    debian.unpack(archive.fetch_all("makedumpfile"), folder / "root")
    _script(
        folder / "makedumpfile",
        'exec qemu-ppc64le-static -L "$here/root" "$here/root/usr/bin/makedumpfile" "$@"',
    )
    return {"version": archive.version("makedumpfile")}


def python_ppc64le(shop: Workshop, folder: Path) -> dict[str, str]:
    """Debian's Python, with the packages that a capture needs, and neither numpy nor numba."""
    archive = shop.archive("ppc64el", _STABLE)
    packages = ("python3", "python3-click", "python3-pluggy", "python3-construct")
    debian.unpack(archive.fetch_all(*packages), folder / "root")
    _script(
        folder / "python3",
        'PYTHONHOME="$here/root/usr" exec qemu-ppc64le-static -L "$here/root" '
        '"$here/root/usr/bin/python3" "$@"',
    )
    return {"version": archive.version("python3")}


def _built_already(name: str, target: Path) -> bool:
    """Unpack a program that lies beside the tests' dumps: building crash takes most of an hour."""
    packed = Path(os.environ.get("PHYPAN_REAL", ROOT.parent / "shared" / "real")) / "bin" / name
    if not packed.exists():
        return False
    import zstandard

    with packed.open("rb") as source, target.open("wb") as file:
        zstandard.ZstdDecompressor().copy_stream(source, file)
    target.chmod(0o755)
    return True


def _version(crash: Path) -> dict[str, str]:
    lines = debian.output([str(crash), "--version"]).split("\n")
    return {"version": next(line.split()[-1] for line in lines if line.startswith("crash"))}


def crash_le(shop: Workshop, folder: Path) -> dict[str, str]:
    """For little-endian dumps, built for this machine."""
    if _built_already("crash-ppc64.zst", folder / "crash"):
        return _version(folder / "crash")
    log, work = shop.log("crash-le"), folder / "work"
    source = _unpacked_source(shop, "crash", "sid", work)
    path = _compilers(work / "compilers", "", "")
    for codec in ((f"-j{os.cpu_count()}",), ("lzo",), ("snappy",), ("zstd",)):
        command("make", "target=PPC64", *codec, cwd=source, log=log, environment=path)
    command("strip", "-o", folder / "crash", source / "crash")
    command("rm", "-rf", work)
    return _version(folder / "crash")


def crash_be(shop: Workshop, folder: Path) -> dict[str, str]:
    """For big-endian dumps: a static program for big-endian POWER.

    crash reads dumps of its own byte order only. What gdb inside of it needs does not exist for
    big-endian in Debian, and is built first.
    """
    if _built_already("crash-ppc64be.zst", folder / "crash.elf"):
        _script(folder / "crash", _UNDER_QEMU)
        return _version(folder / "crash")
    log, work = shop.log("crash-be"), folder / "work"
    prefix = work / "prefix"
    _libraries(shop, work, prefix, log)
    source = _unpacked_source(shop, "crash", "sid", work)
    flags = f"-I{prefix}/include -I{prefix}/include/ncurses -L{prefix}/lib"
    path = _compilers(work / "compilers", f"{BE}-", f"{flags} -static")
    make = ("make", f"CROSS_COMPILE={BE}-", f"-j{os.cpu_count()}")
    command(*make, cwd=source, log=log, environment=path)
    command(f"{BE}-strip", "-o", folder / "crash.elf", source / "crash")
    _script(folder / "crash", _UNDER_QEMU)
    command("rm", "-rf", work)
    return _version(folder / "crash")


def _compilers(folder: Path, prefix: str, flags: str) -> dict[str, str]:
    """An environment with compilers that take `flags` too, and lose no time on debuginfo.

    crash's Makefile hands no flags on to the configure of the gdb inside of it.
    """
    folder.mkdir()
    for tool in ("gcc", "g++"):
        _script(folder / f"{prefix}{tool}", f'exec /usr/bin/{prefix}{tool} "$@" {flags} -O1 -g0')
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def _libraries(shop: Workshop, work: Path, prefix: Path, log: Path) -> None:
    """zlib, GMP, MPFR and ncurses, static, for big-endian POWER, in `prefix`."""
    jobs = f"-j{os.cpu_count()}"
    cross = {tool.upper(): f"{BE}-{tool}" for tool in ("ar", "ranlib")} | {"CC": f"{BE}-gcc"}
    build = debian.output(["gcc", "-dumpmachine"]).strip()
    common = (f"--host={BE}", f"--build={build}", f"--prefix={prefix}")
    static = (*common, "--disable-shared")
    options = {
        "zlib": ("--static", f"--prefix={prefix}"),
        "gmp": (*static, "--disable-assembly"),
        "mpfr4": (*static, f"--with-gmp={prefix}"),
        "ncurses": (
            *common, "--without-shared", "--without-ada", "--without-cxx", "--without-cxx-binding",
            "--without-progs", "--without-tests", "--without-manpages", "--with-build-cc=gcc",
            "--disable-database", "--with-fallbacks=xterm",
        ),
    }  # fmt: skip
    targets = {"zlib": ("libz.a",), "ncurses": ("libs",)}
    installs = {"ncurses": ("install.libs", "install.includes")}
    for name, words in options.items():
        source = _unpacked_source(shop, name, _STABLE, work)
        _without_manual(source)
        environment = cross if name == "zlib" else {}
        command("./configure", *words, cwd=source, log=log, environment=environment)
        command("make", jobs, *targets.get(name, ()), cwd=source, log=log)
        command("make", *installs.get(name, ("install",)), cwd=source, log=log)
    for name in ("termcap", "tinfo"):
        (prefix / "lib" / f"lib{name}.a").symlink_to("libncurses.a")


def _without_manual(source: Path) -> None:
    """Debian takes some manuals out, and configure still wants their Makefiles."""
    manual = source / "doc"
    if (source / "configure").exists() and not (manual / "Makefile.in").exists():
        manual.mkdir(exist_ok=True)
        (manual / "Makefile.in").write_text("all install clean:\n\t@true\n")


PIECES = (
    Piece("qemu", "QEMU of trixie-backports", qemu),
    Piece("qemu-old", "QEMU of bookworm", qemu_old),
    Piece("busybox-le", "static busybox, little-endian", busybox_le),
    Piece(
        "busybox-be", "static busybox, big-endian", busybox_be,
        programs=("make", f"{BE}-gcc", "dpkg-source"),
    ),
    Piece(
        "makedumpfile", "makedumpfile for ppc64el", makedumpfile, programs=("qemu-ppc64le-static",)
    ),
    Piece(
        "python-ppc64le", "Python for ppc64el", python_ppc64le, programs=("qemu-ppc64le-static",)
    ),
    Piece(
        "crash-le", "crash for little-endian dumps", crash_le, programs=_CRASH_NEEDS,
        libraries=_CRASH_LIBRARIES,
    ),
    Piece(
        "crash-be", "crash for big-endian dumps", crash_be,
        programs=(*_CRASH_NEEDS, f"{BE}-g++", "qemu-ppc64-static"),
    ),
)  # fmt: skip
