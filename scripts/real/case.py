"""A dump of the matrix and all that is known of it: what the guest said, what the peers say."""

from __future__ import annotations

import functools
import itertools
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import Cell
from workshop import Workshop

import phypan

_LIMIT = 300  # seconds for a peer
_CRASH = ("sys", "ps", "bt", "mod", "log")
_KERNEL = 0xC000000000000000
_MOST = 30  # ranges whose addresses crash is asked for


class NotApplicable(Exception):
    """Why a check says nothing about this dump."""


@dataclass
class Case:
    """A dump and all that is known of it.

    scratch  an empty folder
    """

    cell: Cell
    directory: Path
    vmlinux: Path | None
    shop: Workshop
    scratch: Path

    @functools.cached_property
    def dump(self) -> phypan.Dump:
        """The dump, opened by phypan."""
        return phypan.open(self.directory)

    @functools.cached_property
    def vmcore(self) -> Path:
        """What phypan converts it to."""
        phypan.convert(self.dump, self.scratch / "vmcore")
        return self.scratch / "vmcore"

    @functools.cached_property
    def console(self) -> str:
        """What the guest printed."""
        return (self.directory / "console.log").read_text("utf-8", "replace").replace("\r", "")

    @property
    def first_boot(self) -> str:
        """What the guest printed until it was dead."""
        begins = re.compile(r"\n(?:SLOF|\[    0\.000000\] )")
        second = begins.search(self.console, self.console.index("PHYPAN: about to crash"))
        return self.console[: second.start() if second else None]

    @functools.cached_property
    def truth(self) -> dict[str, str]:
        """What the guest said of itself before it crashed, by section."""
        found = re.search(r"PHYPAN-TRUTH-BEGIN\n(.*?)PHYPAN-TRUTH-END", self.console, re.DOTALL)
        assert found, "the guest did not tell the truth on its console"
        parts = re.split(r"^== (\S+)\n", found[1], flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True))

    @functools.cached_property
    def registers(self) -> list[dict[str, Any]]:
        """Every CPU's registers as QEMU knew them."""
        return list(json.loads((self.directory / "registers.json").read_text()))

    def processes(self) -> dict[int, str]:
        """Name by process id, of those that live longer than it takes to print them."""
        lines = re.findall(r"^(\d+) \((.*)\) \S", self.truth["processes"], re.MULTILINE)
        return {int(pid): name for pid, name in lines}

    def file(self, name: str) -> Path:
        """A file of the dump directory; NotApplicable if it is not there."""
        path = self.directory / name
        if not path.exists():
            raise NotApplicable(f"no {name}: {self._why_not(name)}")
        return path

    def _why_not(self, name: str) -> str:
        meta = json.loads((self.directory / "meta.json").read_text())
        told = meta.get(f"no {name}")
        return str(told or f"memory was preserved by {meta['preserved by']}")

    @functools.cached_property
    def opened(self) -> phypan.Dump:
        """The dump, opened once more, for what asks the kernel: by what is in the dump alone."""
        return phypan.open(self.directory)

    @functools.cached_property
    def with_debuginfo(self) -> phypan.Dump | None:
        """The dump, opened with the kernel's DWARF, if that is there."""
        return phypan.open(self.directory, symbols=[self.vmlinux]) if self.vmlinux else None

    @property
    def debuginfo(self) -> Path:
        """The kernel with DWARF; NotApplicable if it is not there."""
        if self.vmlinux is None:
            raise NotApplicable("no kernel with DWARF: its debug package was not fetched")
        return self.vmlinux

    @functools.cached_property
    def addresses(self) -> list[int]:
        """Effective addresses to translate: of the linear map, of others, and one of nothing."""
        wanted = [_KERNEL, _KERNEL + 0x123458, 0xC00A0000F0000000]
        mappings = self.opened.spaces["kernel"].mappings()
        others = (one for one in mappings if one.first > _KERNEL + (1 << 45))
        for one in itertools.islice(others, _MOST):
            wanted += [one.first + 0x1238, one.end - 8]
        return wanted

    @property
    def crash_translates(self) -> bool:
        """Whether crash does, on this kernel: on radix with 4K pages it does not.

        It says the same of the kernel's own /proc/vmcore there: 0xc008000000001238 is 0x1238.
        """
        return not (self.cell.mmu == "radix" and self.cell.kernel.endswith("e4k"))

    @functools.cached_property
    def printed_by_crash(self) -> dict[str, str] | str:
        """What crash prints of phypan's vmcore, by command; or why it is not there."""
        commands = [*_CRASH, *(f"vtop {address:x}" for address in self.addresses)]
        try:
            return self.ask_crash(*commands)
        except NotApplicable as reason:
            return str(reason)

    def crash_says(self, command: str) -> str:
        """What crash prints for one of its usual commands; NotApplicable if it is not there."""
        printed = self.printed_by_crash
        if isinstance(printed, str):
            raise NotApplicable(printed)
        assert command in printed, f"crash says: {printed['']}"
        return printed[command]

    def ask_crash(self, *commands: str) -> dict[str, str]:
        """What crash prints for each command, and with "" what it says of itself at the end."""
        name = "crash-be" if self.cell.byte_order == "big" else "crash-le"
        program = self.shop.path(name) / "crash"
        if not program.exists():
            raise NotApplicable(f"the piece {name} is not there")
        script = self.scratch / "crash.in"
        lines = [f"{command} > crash.{n}" for n, command in enumerate(commands)]
        script.write_text("\n".join([*lines, "quit", ""]))
        said = self.peer(program, "-s", "-i", script, self.debuginfo, self.vmcore)
        files = {command: self.scratch / f"crash.{n}" for n, command in enumerate(commands)}
        found = {command: file for command, file in files.items() if file.exists()}
        printed = {command: file.read_text("utf-8", "replace") for command, file in found.items()}
        return {"": " ".join(said.split())[-300:], **printed}

    def peer(self, *words: object) -> str:
        """What another program prints. It must not wait at a prompt."""
        done = subprocess.run(
            [str(word) for word in words],
            capture_output=True, text=True, errors="replace", input="", check=False,
            timeout=_LIMIT, cwd=self.scratch,
        )  # fmt: skip
        return done.stdout + done.stderr

    def close(self) -> None:
        """Close what was opened."""
        for name in ("dump", "opened", "with_debuginfo"):
            dump = vars(self).get(name)
            if dump is not None:
                dump.close()


def same_processes(case: Case, seen: dict[int, str]) -> None:
    """Those of the guest's own that it told of, by the 15 bytes that the kernel keeps of a name."""
    truth = {
        pid: name[:15]
        for pid, name in case.processes().items()
        if name.startswith("phypan") and pid in case.processes()
    }
    truth = {pid: name for pid, name in truth.items() if name != "phypan_crash"}
    assert len(truth) >= 4, "the guest told of too few processes"
    lost = {pid: name for pid, name in truth.items() if seen.get(pid, "")[:15] != name}
    assert not lost, f"not seen: {lost}"
