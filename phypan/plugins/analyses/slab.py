"""Caches of the slab allocator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Bytes, Dump, Problem, hookimpl

if TYPE_CHECKING:
    import drgn


@dataclass(frozen=True)
class SlabRow:
    """One cache."""

    cache: Address  # of struct kmem_cache, effective
    name: str
    object_size: Bytes  # as it was asked for
    allocated: int | None  # objects in use; None where the kernel does not count (SLUB_DEBUG=n)
    total: int | None  # objects that there is room for
    slabs: int | None
    slab_size: Bytes  # of one slab
    size: Bytes | None  # of all slabs


def slab(dump: Dump, *, empty: bool = False) -> Iterator[SlabRow]:
    """List the caches of the slab allocator (crash's kmem -s).

    empty  those without slabs too
    """
    from drgn.helpers.linux.slab import for_each_slab_cache

    from phypan.linux import walk

    caches = walk.walk(
        dump.problems, for_each_slab_cache(dump.program), "slab caches", most=1 << 16
    )
    uncounted = 0
    for row in walk.each(dump.problems, caches, lambda cache: _row(dump, cache), "slab cache"):
        uncounted += row.slabs is None
        if row.slabs != 0 or empty:
            yield row
    if uncounted:
        what = f"{uncounted} caches are not counted: the kernel has no CONFIG_SLUB_DEBUG"
        dump.problems.append(Problem(what, "slab", "their numbers of objects are not known"))


def _row(dump: Dump, cache: drgn.Object) -> SlabRow:
    from drgn.helpers.linux.slab import slab_cache_pages_per_slab, slab_cache_usage

    from phypan.linux.walk import text

    try:
        usage = slab_cache_usage(cache)
    except ValueError:
        usage = None
    size = int(slab_cache_pages_per_slab(cache)) * dump.page_size
    return SlabRow(
        cache=int(cache),
        name=text(cache.name),
        object_size=int(cache.object_size),
        allocated=usage and usage.active_objs,
        total=usage and usage.num_objs,
        slabs=usage and usage.num_slabs,
        slab_size=size,
        size=usage and size * usage.num_slabs,
    )


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The slab caches."""
    return [Analysis(slab, SlabRow, needs=frozenset({"types"}))]
