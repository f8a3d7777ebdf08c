"""Session: one run of QEMU with a guest in it, watched until something happens.

A guest that prints nothing for too long hangs, and so does one that prints for ever; both end in
an error that shows the console's last lines.
"""

from __future__ import annotations

import asyncio
import shlex
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from phypan.errors import GuestError
from phypan.platform.qemu import process, stream
from phypan.platform.qemu.console import Console
from phypan.platform.qemu.guest_memory import GuestMemory
from phypan.platform.qemu.machine import Machine
from phypan.platform.qemu.monitor import Monitor
from phypan.platform.qemu.stream import Stream

Report = Callable[[str], None]  # called with one line of text, often
_INTERVAL = 0.1  # seconds between two looks at the console
_START = 60  # seconds for QEMU to answer
_LIMIT = 3  # times the patience: the longest that one wait may take altogether


@dataclass
class Session:
    """A running QEMU.

    folder    where its files are put: console.log, qemu.log, and what is in between
    memory    the guest's
    patience  seconds without a word on the console after which the guest is given up
    """

    folder: Path
    memory: GuestMemory
    monitor: Monitor
    console: Console
    process: asyncio.subprocess.Process
    patience: float
    report: Report
    seconds: dict[str, float] = field(default_factory=dict)

    async def until(
        self, what: str, *, events: Sequence[str] = (), console: str | None = None
    ) -> str:
        """Wait for `what`: one of `events`, or a text that matches `console`; which it was.

        Raises GuestError when QEMU ends, or the guest hangs.
        """
        began = heard = time.monotonic()
        last = ""
        while True:
            if self.console.look():
                heard = time.monotonic()
                if self.console.last != last:
                    last = self.console.last
                    self.report(f"{what}: {last}")
            happened = self.monitor.happened(*events) if events else None
            found = self.console.search(console) if console else None
            if happened or found:
                self.seconds[what] = round(time.monotonic() - began, 1)
                return happened or (found[0] if found else "")
            now = time.monotonic()
            if self.process.returncode is not None:
                raise self.failed(f"QEMU ended while waiting for {what}")
            if now - heard > self.patience:
                raise self.failed(
                    f"the guest hangs: nothing on its console for {self.patience:g} seconds, "
                    f"waiting for {what}"
                )
            if now - began > _LIMIT * self.patience:
                raise self.failed(f"the guest came to no end, waiting for {what}")
            await asyncio.sleep(_INTERVAL)

    def failed(self, what: str) -> GuestError:
        """The error that says `what`, and what the console and QEMU said last."""
        said = (self.folder / "qemu.log").read_text(errors="replace").strip()
        if said:
            said = "\n  QEMU said last:\n" + "\n".join(
                f"    {line[:200]}" for line in said.splitlines()[-5:]
            )
        return GuestError(
            f"{what}\n  its console ended with:\n{self.console.tail()}{said}",
            hint=f"the whole console is in {self.folder / 'console.log'}",
        )

    async def stop(self) -> None:
        """Stop the guest, if it is not stopped already."""
        await self.monitor.execute("stop")

    async def state(self) -> Stream:
        """Registers, hashed page table and device tree of the guest, which is stopped."""
        path = self.folder / "stream"
        await self.monitor.execute(
            "migrate-set-capabilities",
            capabilities=[{"capability": "x-ignore-shared", "state": True}],
        )
        await self.monitor.execute("migrate-set-parameters", max_bandwidth=1 << 40)
        await self.monitor.execute("migrate", uri=f"exec:cat > {shlex.quote(str(path))}")
        began = time.monotonic()
        while (found := await self.monitor.execute("query-migrate"))["status"] != "completed":
            late = time.monotonic() - began > self.patience
            if late or found["status"] in ("failed", "cancelled"):
                reason = found.get("error-desc", found["status"])
                raise GuestError(f"QEMU did not save the state of the guest: {reason}")
            await asyncio.sleep(_INTERVAL / 2)
        try:
            return stream.read(path.read_bytes())
        finally:
            path.unlink()

    async def ended(self) -> None:
        """Wait until QEMU has ended by itself, because the guest has powered itself off."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), _START)

    async def reset(self) -> None:
        """Boot the stopped guest again; from now on it may power itself off."""
        self.monitor.forget()
        await self.monitor.execute("set-action", reboot="reset", shutdown="poweroff")
        await self.monitor.execute("system_reset")
        await self.monitor.execute("cont")


@asynccontextmanager
async def session(
    machine: Machine,
    program: Sequence[str],
    folder: Path,
    *,
    patience: float,
    report: Report,
) -> AsyncIterator[Session]:
    """A guest that has been started; QEMU is gone when the context is left."""
    ours, theirs = socket.socketpair()
    monitor, console = Monitor(), folder / "console.log"
    with ours, theirs, GuestMemory(machine.memory) as memory:
        words = machine.command(
            program, memory_file=memory.path, monitor=theirs.fileno(), console=console
        )
        inherited = (theirs.fileno(), memory.descriptor)
        async with process.running(words, log=folder / "qemu.log", files=inherited) as child:
            theirs.close()  # so that its end is seen when QEMU ends
            made = Session(folder, memory, monitor, Console(console), child, patience, report)
            report("starting QEMU")
            await _connect(made, ours)
            try:
                yield made
            finally:
                await monitor.close()


async def _connect(made: Session, ours: socket.socket) -> None:
    """Connect to the monitor, or give up when QEMU ends before."""
    greeting = asyncio.ensure_future(made.monitor.connect(ours, _START))
    ended = asyncio.ensure_future(made.process.wait())
    try:
        await asyncio.wait((greeting, ended), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise made.failed("QEMU did not start")
        try:
            await greeting
        except GuestError as error:
            raise made.failed(f"QEMU did not start: {error}") from error
    finally:
        greeting.cancel()
        ended.cancel()
