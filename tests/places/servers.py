"""Real servers on loopback: OpenSSH's, moto's S3, one that takes PUT; and a proxy that disturbs."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.needs import missing

SSHD = "/usr/sbin/sshd"
BUCKET = "crashes"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(**values: object) -> Callable[[], None]:
    """A patch for a process: these variables, in the environment."""
    return lambda: os.environ.update({name: str(value) for name, value in values.items()})


# -- SSH -------------------------------------------------------------------------------------------


@dataclass
class SshServer:
    """OpenSSH's server, which lets in who has the key in `home`."""

    port: int
    home: Path

    def address(self, path: Path, port: int | None = None) -> str:
        user = pwd.getpwuid(os.getuid()).pw_name
        return f"ssh://{user}@127.0.0.1:{port or self.port}{path}"

    def trust(self, port: int) -> None:
        """Have the client know the server on another port too."""
        line = (self.home / ".ssh" / "known_hosts").read_text().splitlines()[0]
        with (self.home / ".ssh" / "known_hosts").open("a") as file:
            file.write(line.replace(f":{self.port} ", f":{port} ") + "\n")

    @property
    def patch(self) -> Callable[[], None]:
        return environment(HOME=self.home, SSH_AUTH_SOCK="")


@contextmanager
def ssh_server(folder: Path, *more: str) -> Iterator[SshServer]:
    if not Path(SSHD).exists() or shutil.which("ssh-keygen") is None:
        missing("openssh-server is not installed")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it when root starts it
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    for path in (folder / "host_key", home / ".ssh" / "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    port = free_port()
    public = (folder / "host_key.pub").read_text()
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": home / ".ssh" / "id_ed25519.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "Subsystem": f"sftp internal-sftp {' '.join(more)}",
    }
    lines = [f"{name} {value}\n" for name, value in settings.items()]
    (folder / "sshd_config").write_text("".join(lines))
    with (folder / "log").open("wb") as log:
        command = [SSHD, "-D", "-e", "-f", folder / "sshd_config"]
        process = subprocess.Popen(command, stderr=log)
    try:
        _wait_for(port, process, folder / "log")
        yield SshServer(port, home)
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


# -- S3 --------------------------------------------------------------------------------------------


@dataclass
class S3Server:
    """moto's server, in threads of this process."""

    port: int

    def variables(self, port: int | None = None) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def patch(self, port: int | None = None) -> Callable[[], None]:
        return environment(**self.variables(port))

    @property
    def _bucket(self) -> Any:
        from moto.s3.models import s3_backends

        return s3_backends["123456789012"]["aws"].buckets[BUCKET]

    def uploads(self) -> list[Any]:
        return list(self._bucket.multiparts.values())

    def parts(self, upload: Any) -> bytes:
        return b"".join(part.value for _, part in sorted(upload.parts.items()))

    def get(self, key: str) -> bytes | None:
        found = self._bucket.keys.get(key)
        return None if found is None else found.value

    def clear(self) -> None:
        self._bucket.keys.clear()
        self._bucket.multiparts.clear()


@contextmanager
def s3_server() -> Iterator[S3Server]:
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id="id", aws_secret_access_key="secret",
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    try:
        yield S3Server(port)
    finally:
        server.stop()


# -- PUT -------------------------------------------------------------------------------------------


@dataclass
class PutServer:
    """A server that keeps what is PUT there, and answers as it is told to."""

    port: int = 0
    kept: dict[str, bytes] = field(default_factory=dict)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)  # the next ones; then 201
    early: bool = False  # answer, and hang up, after the first chunk
    scheme: str = "http"

    def address(self, path: str = "/dumps/vmcore", port: int | None = None) -> str:
        return f"{self.scheme}://127.0.0.1:{port or self.port}{path}"


@contextmanager
def put_server(secure: ssl.SSLContext | None = None) -> Iterator[PutServer]:
    """secure: of a server that speaks HTTPS."""
    state = PutServer(scheme="https" if secure else "http")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.send_response(200 if self.path in state.kept else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_PUT(self) -> None:
            state.headers.append(dict(self.headers))
            data = bytearray()
            while size := int(self.rfile.readline() or b"0", 16):
                data += self.rfile.read(size)
                self.rfile.readline()
                if state.early:
                    break
            else:
                if self.rfile.readline() != b"\r\n":
                    return  # cut short
            code = state.answers.pop(0) if state.answers else 201
            if code == 201:
                state.kept[self.path] = bytes(data)
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.close_connection = state.early

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if secure:
        server.socket = secure.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    server.handle_error = lambda *args: None  # connections that were cut
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Authority:
    """A certificate authority, which signs certificates of servers."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
        own = self._certificate(self._name, self._key.public_key(), timedelta(days=1))
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.path = self.folder / "authority.pem"
        self.path.write_bytes(_pem(own.sign(self._key, hashes.SHA256())))

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, valid: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            self._name, subject, key, x509.random_serial_number(),
            now - timedelta(days=2), now + valid,
        )  # fmt: skip

    def server(self, host: str = "127.0.0.1", valid: timedelta = timedelta(days=1)) -> Any:
        """The context of a server whose certificate is for an address, for so long from now on."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))])
        made = self._certificate(x509.Name([]), key.public_key(), valid)
        signed = made.add_extension(names, critical=True).sign(self._key, hashes.SHA256())
        path = self.folder / "server.pem"
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(secret + _pem(signed))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


# -- what disturbs ---------------------------------------------------------------------------------


@dataclass
class Proxy:
    """Passes connections on to a port. `cuts`: after how many bytes each of the next is cut."""

    port: int
    cuts: list[int]
    connections: int = 0


@contextmanager
def proxy(to: int, cuts: list[int], delay: float = 0, *, dead: bool = False) -> Iterator[Proxy]:
    """delay: seconds before each 64 KiB that go to the server.

    dead: what is cut stays open, but nothing is read of it any more, and nothing answered.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    state = Proxy(listening.getsockname()[1], list(cuts))
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            if not wait([listening], 0.1):
                continue
            client, _ = listening.accept()
            state.connections += 1
            left = state.cuts.pop(0) if state.cuts else None
            after = ended.wait if dead else None
            passing = threading.Thread(
                target=_pass_on, args=(client, to, left, delay, after), daemon=True
            )
            passing.start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        ended.set()
        thread.join()
        listening.close()


def _pass_on(
    client: socket.socket,
    to: int,
    left: int | None,
    delay: float,
    dead: Callable[[], object] | None,
) -> None:
    with client, socket.create_connection(("127.0.0.1", to)) as server, suppress(OSError):
        others = {client: server, server: client}
        while True:
            if dead is not None and left is not None and left <= 0:
                dead()
                return
            for ready in wait([client, server]):
                data = ready.recv(1 << 16)
                if ready is client and left is not None:
                    data, left = data[:left], left - len(data)
                if data:
                    others[ready].sendall(data)
                    time.sleep(delay if ready is client else 0)
                over = left is not None and left <= 0
                if over and dead is not None:
                    break
                if not data or over:
                    if over:  # a reset, not an orderly end
                        for side in (client, server):
                            linger = b"\1\0\0\0\0\0\0\0"
                            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
