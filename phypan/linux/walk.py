"""Going through a kernel's lists and trees when they may be damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from phypan.errors import PhypanError, Problem

if TYPE_CHECKING:
    import drgn

MOST = 1 << 20  # elements
_TOLD = 3  # problems of one kind that are told one by one
_Item = TypeVar("_Item")
_Row = TypeVar("_Row")
_Default = TypeVar("_Default")


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


def each(
    problems: list[Problem], items: Iterable[_Item], make: Callable[[_Item], _Row], where: str
) -> Iterator[_Row]:
    """What `make` makes of each item; for one whose memory is missing or wrong, a problem.

    Of many the first few are told, and the number of the others.
    """
    lost = 0
    for item in items:
        try:
            made = make(item)
        except faults() as error:
            lost += 1
            if lost <= _TOLD:
                place = f"{where} {item}" if isinstance(item, str) else f"{where} {_address(item)}"
                problems.append(Problem(reason(error), place.strip(), "it is left out"))
            continue
        yield made
    if lost > _TOLD:
        problems.append(Problem(f"{lost - _TOLD} more", where, "they are left out too"))


def _address(item: object) -> str:
    """Where an object of drgn's is; nothing for other things."""
    value: Any = item
    return f"at {int(value):#x}" if hasattr(item, "type_") else ""


def attempt(
    problems: list[Problem], make: Callable[[], _Row], where: str, default: _Default
) -> _Row | _Default:
    """What `make` makes; `default`, and a problem, where memory is missing or wrong."""
    try:
        return make()
    except faults() as error:
        problems.append(Problem(reason(error), where, "it is not known"))
        return default


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
