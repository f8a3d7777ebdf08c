"""Which way the kernels run: numba, numpy, or plain Python.

PHYPAN_KERNELS=numba|numpy|plain chooses; else it is the first of them that this host has. All give
the same results. Neither numba nor numpy is imported before a kernel is first called. What runs
where memory is scarce does without numba (`lean`).
"""

from __future__ import annotations

import functools
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal, cast, get_args

from phypan.errors import Unsupported

Mode = Literal["numba", "numpy", "plain"]
VARIABLE = "PHYPAN_KERNELS"


def mode() -> Mode:
    """The way that is chosen; Unsupported if PHYPAN_KERNELS asks for one that is not here."""
    asked = os.environ.get(VARIABLE, "")
    if asked:
        if asked not in get_args(Mode):
            raise Unsupported(
                f"{VARIABLE}={asked}", hint=f"it may be one of {', '.join(get_args(Mode))}"
            )
        if asked != "plain" and find_spec(asked) is None:
            raise Unsupported(f"{VARIABLE}={asked}, which is not installed")
        return cast(Mode, asked)
    if _lean:
        return "plain" if find_spec("numpy") is None else "numpy"
    return _best()


_lean: list[None] = []  # one for each `lean` that is entered


@contextmanager
def lean() -> Iterator[None]:
    """Do without numba meanwhile, unless it is asked for: it takes 90 MiB."""
    _lean.append(None)
    try:
        yield
    finally:
        _lean.pop()


@functools.cache
def _best() -> Mode:
    if find_spec("numpy") is None:
        return "plain"
    if find_spec("numba") is not None:
        try:
            import numba  # noqa: F401 - one that does not fit its numpy fails here
        except (ImportError, SystemError):
            return "numpy"
        return "numba"
    return "numpy"


def words(values: Any, how: Mode) -> Any:
    """An array of unsigned 64-bit words: numpy's, or array.array where there is no numpy."""
    if how == "plain":
        return array("Q", values)
    import numpy as np

    ready = isinstance(values, np.ndarray | list | tuple | array)
    return np.asarray(values if ready else list(values), np.uint64)


def zeros(count: int, how: Mode, *, small: bool = False) -> Any:
    """An array of `count` zeros: 64-bit words, or bytes if `small`."""
    if how == "plain":
        return array("B" if small else "Q", bytes(count * (1 if small else 8)))
    import numpy as np

    return np.zeros(count, np.uint8 if small else np.uint64)
