"""Debian's archive, used without installing: packages of other suites and architectures.

apt does the work, with lists and a cache of its own beside those of this machine. The mirror is the
one that this machine's own apt uses, or MIRROR in the environment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
FRESH = 24 * 3600  # seconds that package lists are good for
TRIES = 3  # a mirror may be in the middle of an update


class ArchiveError(Exception):
    """Something that Debian's archive did not give."""


def mirror() -> str:
    """Where this machine's own apt gets Debian from."""
    if "MIRROR" in os.environ:
        return os.environ["MIRROR"]
    sites = output(["apt-get", "indextargets", "--format", "$(SITE)", "Identifier: Packages"])
    for site in sites.split():
        if site.endswith("/debian"):
            return site
    raise ArchiveError("apt on this machine knows no Debian mirror: set MIRROR")


def native() -> str:
    """The architecture of this machine, as Debian calls it."""
    return output(["dpkg", "--print-architecture"]).strip()


def installed(package: str) -> bool:
    """Whether this machine has a package."""
    words = ["dpkg-query", "-W", "-f", "${Status}", package]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return "ok installed" in done.stdout


def output(command: Sequence[str]) -> str:
    """What a program prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ArchiveError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Archive:
    """Packages of one architecture, from some suites.

    folder    holds lists and configuration; packages are kept in its `packages`
    suites    in ascending order of preference: a package comes from the last that has it
    """

    def __init__(self, folder: Path, architecture: str, *suites: str) -> None:
        self.architecture, self.suites = architecture, suites
        self.packages = folder / "packages"
        self._root = folder / f"apt-{architecture}-{'-'.join(suites)}"
        self._ready = False

    def _options(self) -> list[str]:
        root = self._root
        settings = {
            "Dir::Etc::sourcelist": root / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": root / "preferences",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State::Lists": root / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": root / "cache",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "1",
            "Acquire::Languages": "none",
        }
        words = (("-o", f"{name}={value}") for name, value in settings.items())
        return ["-q=2", *(word for pair in words for word in pair)]

    def _apt(self, command: str, *arguments: str, cwd: Path | None = None) -> str:
        self._prepare()
        whole = [command, *self._options(), *arguments]
        done = subprocess.run(whole, capture_output=True, text=True, check=False, cwd=cwd)
        if done.returncode:
            raise ArchiveError(f"{command} {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _prepare(self) -> None:
        """The lists, fetched anew when they are old; old ones serve when there is no network."""
        if self._ready:
            return
        self._ready = True
        for name in ("lists/partial", "cache/archives/partial"):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        lines = [
            f"{kind} [signed-by={KEYRING}] {mirror()} {suite} main\n"
            for suite in self.suites
            for kind in ("deb", "deb-src")
        ]
        (self._root / "sources.list").write_text("".join(lines))
        (self._root / "preferences").write_text(
            "".join(
                f"Package: *\nPin: release n={suite}\nPin-Priority: {500 + 10 * number}\n\n"
                for number, suite in enumerate(self.suites)
            )
        )
        stamp = self._root / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < FRESH:
            return
        for attempt in range(TRIES):
            try:
                self._apt("apt-get", "update")
                stamp.touch()
                return
            except ArchiveError as error:
                if attempt == TRIES - 1:
                    if not stamp.exists() and not any((self._root / "lists").glob("*Packages*")):
                        raise
                    print(f"    package lists: {error}; those that are there are used")
                time.sleep(2**attempt)

    def depends(self, package: str, pattern: str) -> str:
        """The first package that `package` depends on whose name matches `pattern`."""
        found = self.depends_all(package, pattern)
        if not found:
            raise ArchiveError(f"{package} depends on nothing like {pattern}")
        return found[0]

    def depends_all(self, package: str, pattern: str) -> list[str]:
        """All that `package` depends on whose names match `pattern`."""
        text = self._apt("apt-cache", "depends", package)
        return re.findall(rf"^ *Depends: ({pattern})$", text, re.MULTILINE)

    def version(self, package: str) -> str:
        """The version that would be fetched."""
        found = re.search(r"Candidate: (\S+)", self._apt("apt-cache", "policy", package))
        if not found or found[1] == "(none)":
            raise ArchiveError(f"no package {package} in {', '.join(self.suites)}")
        return found[1]

    def fetch(self, *packages: str) -> list[Path]:
        """These packages, without what they depend on: files that stay in the cache."""
        self.packages.mkdir(parents=True, exist_ok=True)
        uris = self._apt("apt-get", "download", "--print-uris", *packages)
        files, missing = [], []
        for line in uris.splitlines():
            _, name, size, *_ = line.split()
            files.append(self.packages / name)
            if not files[-1].exists() or files[-1].stat().st_size != int(size):
                missing.append("{}={}".format(*name.split("_")[:2]).replace("%3a", ":"))
        if missing:
            self._apt("apt-get", "download", *missing, cwd=self.packages)
        for file in files:
            if not file.exists():
                raise ArchiveError(f"apt-get download did not leave {file.name}")
        return files

    def fetch_all(self, *packages: str) -> list[Path]:
        """These packages and all that they depend on."""
        arguments = ["-y", "--no-install-recommends", "--print-uris", "install", *packages]
        names = re.findall(r"^'[^']*' (\S+) ", self._apt("apt-get", *arguments), re.MULTILINE)
        wanted = [
            "{}={}".format(*name.split("_")[:2]).replace("%3a", ":")
            for name in names
            if name.endswith(".deb")
        ]
        return self.fetch(*wanted)

    def source(self, package: str, into: Path) -> Path:
        """The source of `package`, as Debian packs it, in `into`; the path of its .dsc."""
        into.mkdir(parents=True, exist_ok=True)
        self._apt("apt-get", "source", "--download-only", package, cwd=into)
        return next(into.glob(f"{package}_*.dsc"))


def unpack(packages: Iterable[Path], into: Path) -> None:
    """What is in `packages`, in `into`, with the links that merged /usr needs."""
    into.mkdir(parents=True, exist_ok=True)
    for package in packages:
        subprocess.run(["dpkg", "-x", package, into], check=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        if not (into / name).exists() and (into / "usr" / name).is_dir():
            (into / name).symlink_to(f"usr/{name}")
    for loader in into.glob("lib64/ld*"):  # absolute, it would leave the folder
        target = os.readlink(loader) if loader.is_symlink() else ""
        if target.startswith("/"):
            loader.unlink()
            loader.symlink_to(f"..{target}")


def member(package: Path, pattern: str, target: Path) -> None:
    """One file out of a package; what comes after it is not unpacked.

    Debug packages are of many hundred MB and the file is one of their first.
    """
    unpacked = subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert unpacked.stdout
    take = ["tar", "-xO", "--occurrence=1", "--wildcards", pattern]
    with target.open("wb") as out:
        subprocess.run(take, stdin=unpacked.stdout, stdout=out, check=False)
    unpacked.stdout.close()  # dpkg-deb ends of SIGPIPE when it is not read to the end
    unpacked.wait()
    if not target.stat().st_size:
        raise ArchiveError(f"{package.name} has no {pattern}")


def command(
    *words: object,
    log: Path | None = None,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
) -> None:
    """Run a program at low priority; what it prints goes behind `log`."""
    whole = ["nice", *map(str, words)] if shutil.which("nice") else [*map(str, words)]
    with log.open("ab") if log else open(os.devnull, "wb") as out:
        done = subprocess.run(
            whole,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            check=False,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
        )
    if done.returncode:
        where = f"; see {log}" if log else ""
        raise ArchiveError(f"{' '.join(whole)} ended with {done.returncode}{where}")
