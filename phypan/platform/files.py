"""Files that the model's kernel shows: what is read of each when, and what writing to it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from phypan.formats.device_tree import Node


@dataclass(frozen=True)
class File:
    """A file: `size` in bytes (0 for one whose content is made when it is read), and its calls."""

    read: Callable[[int, int], bytes] | None = (
        None  # (file offset, size) -> bytes, fewer at the end
    )
    write: Callable[[bytes], None] | None = None
    size: int = 0


def text_file(make: Callable[[], str], write: Callable[[bytes], None] | None = None) -> File:
    """A file whose text is made whenever it is read."""
    return File(lambda offset, size: make().encode()[offset : offset + size], write, 0)


def bytes_file(data: bytes) -> File:
    """A file that holds `data`."""
    return File(lambda offset, size: data[offset : offset + size], None, len(data))


def directory(path: str, node: Node) -> Iterator[tuple[str, File]]:
    """A node's properties and those below it, as /proc/device-tree shows them."""
    for name, value in node.properties.items():
        yield f"{path}/{name}", bytes_file(value)
    for child in node.children:
        yield from directory(f"{path}/{child.name}", child)
