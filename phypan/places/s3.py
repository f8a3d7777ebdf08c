"""S3: an object in an object store, by a multipart upload that can be gone on with.

What is certain: the parts that the store has confirmed, each with its MD5. Upload id and parts are
in the capture's journal; nobody sees the object before the upload is completed. s3fs speaks the
protocol; keys, region and AWS_ENDPOINT_URL are found where every AWS tool looks for them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from phypan.errors import OutputError, Unreachable, Unsupported
from phypan.places.address import Address
from phypan.places.certificates import not_trusted
from phypan.places.protocols import Bytes
from phypan.places.shelves import FsspecShelf

_LEAST, _MOST_PARTS = 16 << 20, 9900  # bytes of a part; the store takes 10,000 of them
_SILENT = 120  # seconds in which the store has to answer; and for what it is sent at the slowest
_SLOWEST = 64 << 10  # bytes in a second
_AT_ONCE = 3  # parts of that size on their way: what a distant store needs to be fast
_MIB = 1 << 20
_TOKEN = "phypan-capture"  # metadata of the object: which upload it is


class S3Upload:
    """A multipart upload to `address`, new, or taken up again behind the parts in `place`.

    size  bytes that it will have at the most
    """

    def __init__(self, address: Address, place: Mapping[str, Any], size: int) -> None:
        self.name = address.name
        self._store = _Store(address)
        self._part = max(_LEAST, -(-size // (_MOST_PARTS * _MIB)) * _MIB)
        self._drop = not place.get("upload")
        self._upload = place.get("upload") or self._store.begin()["upload"]
        self._parts: list[list[Any]] = [list(part) for part in place.get("parts", ())]
        self._told = len(self._parts)
        self._new: list[list[Any]] = []
        self._lock, self._waiting = threading.Lock(), bytearray()
        self._senders = ThreadPoolExecutor(_AT_ONCE)
        self._sent: deque[tuple[Future[str], int]] = deque()  # in order; bytes of each

    def append(self, *parts: Bytes) -> None:
        """Keep it until there is enough for a part; that is sent meanwhile, with some others."""
        for part in parts:
            self._waiting += part
        if len(self._waiting) >= self._part:
            self._send()
            self._settle(max(1, _AT_ONCE * _LEAST // self._part))

    def _send(self) -> None:
        number, data = len(self._parts) + len(self._sent) + 1, bytes(self._waiting)
        self._waiting.clear()
        sent = self._senders.submit(self._store.part, self._upload, number, data)
        self._sent.append((sent, len(data)))

    def _settle(self, most: int) -> None:
        """Wait until no more than so many parts are on their way; one that failed stays."""
        while len(self._sent) > most or (self._sent and self._sent[0][0].done()):
            sent, size = self._sent[0]
            etag = sent.result()
            with self._lock:
                self._parts.append([len(self._parts) + 1, etag, size])
            self._sent.popleft()

    def confirm(self) -> int:
        """Up to the first part that the store may not have."""
        with self._lock:
            self._new, self._told = self._parts[self._told :], len(self._parts)
            return sum(size for _, _, size in self._parts)

    def state(self) -> Mapping[str, Any]:
        """The upload, and the parts that `confirm` counted for the first time."""
        return {"upload": self._upload, "parts": self._new}

    def finish(self) -> None:
        """Send the rest, and have the store make an object of all parts."""
        if self._waiting or not (self._parts or self._sent):
            self._send()
        self._settle(0)
        self._store.complete(self._upload, self._parts)
        self._drop = False
        size = sum(size for _, _, size in self._parts)
        found = self._store.size()
        if found != size:
            what = f"the store has {found} bytes of {size}"
            raise OutputError(what, where=self.name, hint="save to another place")

    def close(self) -> None:
        """Wait for what is on its way: nothing may arrive after what replaces it.

        An unfinished upload stays in the store, to be gone on with; one that began here does not:
        nobody knows of it, and what it takes would be paid for.
        """
        self._senders.shutdown(cancel_futures=True)
        if self._drop:
            self._drop = False
            with suppress(OutputError):
                self._store.drop(self._upload)


class _Store:
    """The requests that it takes, about one object."""

    def __init__(self, address: Address) -> None:
        self.name, self._bucket = address.name, address.host
        self._object = {"Bucket": address.host, "Key": address.path.lstrip("/")}
        try:
            import s3fs
        except ImportError:
            what, hint = "s3:// needs the package s3fs", "pip install 'phypan[s3]'"
            raise Unsupported(what, where=address.name, hint=hint) from None
        more: dict[str, Any] = {}
        if address.user:
            more = {"key": address.user, "secret": address.password}
        limits = {"connect_timeout": 20, "read_timeout": _SILENT, "retries": {"max_attempts": 1}}
        checks = {"request_checksum_calculation": "when_required"}  # other stores know no others
        self.files = s3fs.S3FileSystem(
            skip_instance_cache=True, config_kwargs={**limits, **checks}, **more
        )
        self.files.retries = 1  # the caller tries again
        with _errors(self.name):
            self.files.connect()  # now: several threads will use it

    def _call(self, method: str, **parameters: Any) -> Any:
        """Ask the store. While a body is sent, nothing below would ever stop to wait for it."""
        from fsspec.asyn import sync

        limit = _SILENT + len(parameters.get("Body", b"")) / _SLOWEST
        files = self.files

        async def asked() -> Any:
            request = files._call_s3(method, **self._object, **parameters)
            return await asyncio.wait_for(request, limit)

        with _errors(self.name):
            try:
                return sync(files.loop, asked)
            except TimeoutError as error:
                what = f"nothing was heard of the store for {limit:.3g} s"
                raise Unreachable(what, where=self.name) from error

    def begin(self) -> dict[str, Any]:
        """Begin an upload; what it takes to go on with it."""
        token = os.urandom(8).hex()
        told = self._call("create_multipart_upload", Metadata={_TOKEN: token})
        return {"upload": told["UploadId"], "token": token}

    def part(self, upload: str, number: int, data: bytes) -> str:
        """Send a part; the store's name for it. Its MD5 has the store refuse what is altered."""
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        checksum = base64.b64encode(digest).decode()
        told = self._call(
            "upload_part", UploadId=upload, PartNumber=number, Body=data, ContentMD5=checksum
        )
        return str(told["ETag"])

    def complete(self, upload: str, parts: list[list[Any]]) -> None:
        """Make the object out of its parts."""
        listed = [{"PartNumber": number, "ETag": etag} for number, etag, _ in parts]
        self._call("complete_multipart_upload", UploadId=upload, MultipartUpload={"Parts": listed})

    def drop(self, upload: str) -> None:
        """Forget an upload and its parts."""
        self._call("abort_multipart_upload", UploadId=upload)

    def head(self) -> Mapping[str, Any] | None:
        """What the store says of the object; None if there is none."""
        try:
            found: Mapping[str, Any] = self._call("head_object")
        except _Missing:
            return None
        return found

    def size(self) -> int:
        """Bytes of the object."""
        return int((self.head() or {}).get("ContentLength", 0))


class _Missing(OutputError):
    """No such bucket, object or upload."""


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Turn what s3fs, botocore and the network raise into phypan's errors."""
    from botocore import exceptions

    lacking = (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)
    try:
        yield
    except FileNotFoundError as error:
        raise _Missing(str(error), where=name) from error
    except lacking as error:
        hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials"
        raise OutputError(str(error), where=name, hint=hint) from error
    except (PermissionError, exceptions.ParamValidationError, ValueError) as error:
        raise OutputError(str(error), where=name) from error
    except (OSError, exceptions.BotoCoreError, exceptions.ClientError) as error:
        distrust = not_trusted(error, name, "AWS_CA_BUNDLE")
        raise distrust or Unreachable(str(error) or type(error).__name__, where=name) from error


def check(address: Address, *, force: bool) -> None:
    """OutputError if there is such an object already."""
    if not force and _Store(address).head() is not None:
        raise OutputError("exists already", where=address.name, hint="overwrite it with --force")


def begin(address: Address) -> Mapping[str, Any]:
    """Begin an upload; what it takes to go on with it."""
    return _Store(address).begin()


def is_named(address: Address, place: Mapping[str, Any]) -> bool:
    """Whether the object is there that the upload in `place` makes."""
    found = _Store(address).head()
    return found is not None and found.get("Metadata", {}).get(_TOKEN) == place.get("token")


def shelf(address: Address) -> FsspecShelf:
    """What names in a bucket begin with, up to a slash."""
    store = _Store(address)
    return FsspecShelf(address.name, store.files, f"{address.host}/{address.path.strip('/')}")
