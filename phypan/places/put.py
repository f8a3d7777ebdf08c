"""Put: a stream that becomes what an HTTP server keeps under an address, by one PUT.

RFC 9110 section 9.3.4, in chunks (RFC 9112 section 7.1), since nobody knows its length before the
end. The server's 2xx to all of it is the only confirmation that there is: what is stopped begins
anew. A name and password are those in the address, else those that ~/.netrc has for the host.
"""

from __future__ import annotations

import base64
import http.client
import netrc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from phypan.errors import OutputError, Unreachable
from phypan.places.address import Address
from phypan.places.certificates import not_trusted
from phypan.places.protocols import Bytes

_PATIENCE = 120  # seconds in which the server has to take something, or to answer
_AGAIN = {408, 425, 429}  # these, and all from 500 on, may be gone when tried again


class HttpPut:
    """One PUT to `address`."""

    def __init__(self, address: Address) -> None:
        self.name = address.name
        self._connection = _connection(address)
        with self._errors():
            self._connection.putrequest("PUT", address.path)
            for name, value in _headers(address).items():
                self._connection.putheader(name, value)
            self._connection.putheader("Content-Type", "application/octet-stream")
            self._connection.putheader("Transfer-Encoding", "chunked")
            self._connection.endheaders()

    def append(self, *parts: Bytes) -> None:
        """Send a chunk."""
        size = sum(memoryview(part).nbytes for part in parts)
        if size:  # one of no bytes is the end
            with self._errors():
                self._connection.send(b"%x\r\n" % size)
                for part in parts:
                    self._connection.send(part)
                self._connection.send(b"\r\n")

    def confirm(self) -> int:
        """Nothing is certain before the end."""
        return 0

    def state(self) -> Mapping[str, Any]:
        """Nothing: what is stopped begins anew."""
        return {}

    def finish(self) -> None:
        """End it, and wait until the server says that it has it."""
        with self._errors():
            self._connection.send(b"0\r\n\r\n")
            answer = self._connection.getresponse()
            answer.read(1 << 16)
        _check(answer, self.name)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """A connection that breaks; the server may have said why before it hung up."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            if self._connection.sock is not None:
                with suppress(OSError, http.client.HTTPException):
                    self._connection.sock.settimeout(2)
                    _check(self._connection.getresponse(), self.name)
            raise _error(error, self.name) from error


def check(address: Address, *, force: bool) -> None:
    """OutputError if the server has something there already. Unreachable if it does not answer."""
    connection = _connection(address)
    try:
        connection.request("HEAD", address.path, headers=_headers(address))
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise _error(error, address.name) from error
    finally:
        connection.close()
    if 200 <= status < 300 and not force:
        raise OutputError("exists already", where=address.name, hint="overwrite it with --force")


def make_folder(address: Address) -> None:
    """Ask for a folder, as a WebDAV server wants to be (RFC 4918 section 9.3). Others refuse.

    What becomes of that is seen when something is put there. Unreachable if it does not answer.
    """
    connection = _connection(address)
    try:
        connection.request("MKCOL", address.path.rstrip("/") + "/", headers=_headers(address))
        connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(_said(error), where=address.name) from error
    finally:
        connection.close()


def _connection(address: Address) -> http.client.HTTPConnection:
    secure = address.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    return kind(address.host, address.port, timeout=_PATIENCE)


def _headers(address: Address) -> dict[str, str]:
    user, password = address.user, address.password
    if user is None:
        with suppress(OSError, netrc.NetrcParseError):
            user, _, password = netrc.netrc().authenticators(address.host) or (None, None, None)
    if user is None:
        return {}
    token = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
    return {"Authorization": f"Basic {token}"}


def _check(answer: http.client.HTTPResponse, name: str) -> None:
    if 200 <= answer.status < 300:
        return
    what = f"the server says {answer.status} {answer.reason}"
    if answer.status in _AGAIN or answer.status >= 500:
        raise Unreachable(what, where=name)
    place = answer.getheader("Location")
    hint = f"the server names another place: {place}" if place else None
    raise OutputError(what, where=name, hint=hint)


def _error(error: Exception, name: str) -> OutputError:
    """What is told: only a certificate is not mended by waiting."""
    return not_trusted(error, name, "SSL_CERT_FILE") or Unreachable(_said(error), where=name)


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
