"""QEMU's monitor: commands and events over a socket, by QEMU's own library for QMP.

https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html; the library is qemu.qmp, which phypan's
extra "qemu" installs.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from phypan.errors import GuestError, Unsupported

if TYPE_CHECKING:
    from qemu.qmp import EventListener, QMPClient

_GRACE = 2  # seconds for a QEMU that is to end anyway
_PATIENCE = 300  # seconds for a command; dump-guest-memory is the slowest


class Monitor:
    """A connection to one QEMU."""

    def __init__(self) -> None:
        self._client, self._listener = _client()
        self._lost: Exception | None = None

    async def connect(self, connected: socket.socket, seconds: float) -> None:
        """Greet QEMU at the other end of a socket; GuestError when it does not answer."""
        try:
            await asyncio.wait_for(self._client.connect(connected), seconds)
        except TimeoutError:
            raise GuestError(f"QEMU's monitor did not answer within {seconds:g} seconds") from None
        except _qmp_error() as error:
            raise GuestError(f"QEMU's monitor did not answer: {error}") from error

    async def execute(self, command: str, **arguments: Any) -> Any:
        """What `command` returns. Underscores in the names of arguments stand for hyphens."""
        words = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return await asyncio.wait_for(self._client.execute(command, words), _PATIENCE)
        except TimeoutError:
            raise GuestError(
                f"QEMU did not answer within {_PATIENCE} seconds", where=command
            ) from None
        except _qmp_error() as error:
            raise GuestError(f"QEMU: {error}", where=command) from error

    def happened(self, *events: str) -> str | None:
        """The first of these events that QEMU has told of so far."""
        heard = [message["event"] for message in self._listener.history]
        return next((str(name) for name in heard if name in events), None)

    def forget(self) -> None:
        """Take no account of the events so far."""
        self._client.remove_listener(self._listener)
        self._listener = type(self._listener)()
        self._client.register_listener(self._listener)

    async def close(self) -> None:
        """Ask QEMU to end, and close the connection, whatever state it is in."""
        with suppress(TimeoutError, _qmp_error()):
            await asyncio.wait_for(self._client.execute("quit"), _GRACE)
        with suppress(TimeoutError, OSError, EOFError, _qmp_error()):
            await asyncio.wait_for(self._client.disconnect(), _GRACE)


def _client() -> tuple[QMPClient, EventListener]:
    try:
        from qemu.qmp import EventListener, QMPClient
    except ImportError as error:
        raise Unsupported(
            "the library qemu.qmp is not installed", hint="pip install 'phypan[qemu]'"
        ) from error
    client, listener = QMPClient("phypan"), EventListener()
    client.register_listener(listener)
    return client, listener


def _qmp_error() -> type[Exception]:
    from qemu.qmp import QMPError

    return QMPError
