"""Ssh: a connection to an SSH server, for code that waits.

asyncssh speaks the protocol, with the keys, the agent, the known hosts and the configuration of the
user's OpenSSH.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from phypan.errors import OutputError, Unreachable, Unsupported
from phypan.places.address import Address

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SSHClientConnection

_ALIVE = 15  # seconds of silence after which the server is asked whether it is there; four times
_END = 10  # seconds that hanging up may take
Result = TypeVar("Result")


class SshConnection:
    """A connection to an SSH server, in an event loop in a thread of its own."""

    def __init__(self, address: Address) -> None:
        try:
            import asyncssh  # noqa: F401
        except ImportError:
            what, hint = "ssh:// needs the package asyncssh", "pip install 'phypan[ssh]'"
            raise Unsupported(what, where=address.name, hint=hint) from None
        self.name = address.name
        self.path = address.path.removeprefix("/~/") if "/~/" in address.path else address.path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._connection: SSHClientConnection | None = None
        try:
            self.client: SFTPClient = self.call(self._connected(address))
        except BaseException:
            self.close()
            raise

    async def _connected(self, address: Address) -> SFTPClient:
        import asyncssh

        given = {"port": address.port, "username": address.user, "password": address.password}
        self._connection = await asyncssh.connect(
            address.host,
            keepalive_interval=_ALIVE,
            keepalive_count_max=4,
            connect_timeout=30,
            login_timeout=60,
            **{name: value for name, value in given.items() if value is not None},
        )
        return await self._connection.start_sftp_client()

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do it now; its result."""
        with ssh_errors(self.name):
            return self.begin(work).result()

    def begin(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Do it meanwhile."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Hang up; what is under way ends."""
        if self._loop.is_closed():
            return
        with suppress(TimeoutError):
            self.begin(self._hung_up()).result(_END)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_END)
        if not self._loop.is_running():
            self._loop.close()

    async def _hung_up(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            await self._connection.wait_closed()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@contextmanager
def ssh_errors(name: str) -> Iterator[None]:
    """Turn what asyncssh and the network raise into phypan's errors."""
    import asyncssh

    final = (
        asyncssh.PermissionDenied,
        asyncssh.HostKeyNotVerifiable,
        asyncssh.SFTPPermissionDenied,
        asyncssh.SFTPNoSuchFile,
        asyncssh.SFTPNoSuchPath,
        asyncssh.SFTPFileAlreadyExists,
        asyncssh.ConfigParseError,
        asyncssh.KeyImportError,
    )
    try:
        yield
    except final as error:
        hint = None
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            hint = "connect once with ssh, by hand, and look at the key that it shows"
        raise OutputError(_said(error), where=name, hint=hint) from error
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise Unreachable(_said(error), where=name) from error


def _said(error: BaseException) -> str:
    said = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return said or type(error).__name__
