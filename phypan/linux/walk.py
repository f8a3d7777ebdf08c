"""Going through a kernel's lists and trees when they may be damaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from phypan.errors import PhypanError, Problem

if TYPE_CHECKING:
    import drgn

MOST = 1 << 20  # elements


def walk(
    problems: list[Problem], objects: Iterable[drgn.Object], where: str, *, most: int = MOST
) -> Iterator[drgn.Object]:
    """Pointers from one of drgn's iterators, until one comes again or memory is missing.

    What ends the way early becomes a problem; `where` names the list.
    """
    seen: set[int] = set()
    iterator = iter(objects)
    while True:
        try:
            found = next(iterator, None)
            if found is None:
                return
            address = int(found)
        except faults() as error:
            what = f"it cannot be followed further: {reason(error)}"
            problems.append(Problem(what, where, f"what is behind element {len(seen)} is missing"))
            return
        if address in seen or len(seen) >= most:
            what = f"{address:#x} comes twice" if address in seen else f"more than {most} elements"
            problems.append(Problem(what, where, f"it was left after {len(seen)} elements"))
            return
        seen.add(address)
        yield found


def faults() -> tuple[type[Exception], ...]:
    """What is raised where memory is missing or holds nonsense, by drgn and by phypan."""
    from drgn import FaultError, ObjectAbsentError, OutOfBoundsError

    return (
        *(FaultError, PhypanError, LookupError, ValueError, RecursionError, AttributeError),
        *(ObjectAbsentError, OutOfBoundsError, TypeError, OverflowError),
    )


def reason(error: BaseException) -> str:
    """An error of drgn's or phypan's in one line."""
    return str(error).split("\n")[0] or type(error).__name__


def text(value: Any) -> str:
    """A C string of the kernel as text; bytes that are no UTF-8 are shown as escapes."""
    data: bytes = value if isinstance(value, bytes) else value.string_()
    return data.decode("utf-8", "backslashreplace")
