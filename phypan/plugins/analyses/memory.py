"""How memory was used: crash's kmem -i, and more of /proc/meminfo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from phypan import Analysis, Bytes, Dump, Pages, Show, hookimpl

if TYPE_CHECKING:
    import drgn


@dataclass(frozen=True)
class MemoryRow:
    """One use of memory."""

    item: str
    pages: Pages | None
    size: Bytes | None
    share: Annotated[float | None, Show(unit="%")]  # of what `of` names
    of: str | None


def memory(dump: Dump) -> Iterator[MemoryRow]:
    """Show how memory, huge pages and swap were used (crash's kmem -i)."""
    from phypan.linux import walk

    totals: dict[str, int | None] = {}
    for item, count, of in _ITEMS:

        def pages(count: Callable[[drgn.Program], int] = count) -> int | None:
            return count(dump.program)

        found = walk.attempt(dump.problems, pages, f"memory, {item}", None)
        totals[item] = found
        whole = totals.get(of or "")
        yield MemoryRow(
            item=item,
            pages=found,
            size=None if found is None else found * dump.page_size,
            share=None if found is None or not whole else round(100 * found / whole, 1),
            of=of,
        )


def _total(program: drgn.Program) -> int:
    from drgn.helpers.linux.mm import totalram_pages

    return int(totalram_pages(program))


def _free(program: drgn.Program) -> int:
    from drgn.helpers.linux.vmstat import nr_free_pages

    return int(nr_free_pages(program))


def _buffers(program: drgn.Program) -> int:
    from drgn.helpers.linux.block import nr_blockdev_pages

    return int(nr_blockdev_pages(program))


def _cached(program: drgn.Program) -> int:
    from drgn.helpers.linux.swap import total_swapcache_pages

    files = _node("NR_FILE_PAGES")(program)
    return files - int(total_swapcache_pages(program)) - _buffers(program)


def _node(name: str) -> Callable[[drgn.Program], int]:
    """A counter of pages that nodes keep, by the name of its enumerator."""

    def count(program: drgn.Program) -> int:
        from drgn.helpers.linux.vmstat import global_node_page_state

        return int(global_node_page_state(program[name]))

    return count


def _slab(program: drgn.Program) -> int:
    from drgn.helpers.linux.slab import slab_total_usage

    return int(slab_total_usage(program).total_pages)


def _reclaimable(program: drgn.Program) -> int:
    from drgn.helpers.linux.slab import slab_total_usage

    return int(slab_total_usage(program).reclaimable_pages)


def _huge(free: bool) -> Callable[[drgn.Program], int]:
    def count(program: drgn.Program) -> int:
        from drgn.helpers.linux.hugetlb import hugetlb_total_usage

        usage = hugetlb_total_usage(program)
        return int(usage.free_pages if free else usage.pages)

    return count


def _swap(name: str) -> Callable[[drgn.Program], int]:
    def count(program: drgn.Program) -> int:
        from drgn.helpers.linux.swap import swap_total_usage

        return int(getattr(swap_total_usage(program), name))

    return count


def _limit(program: drgn.Program) -> int:
    from drgn.helpers.linux.mm import vm_commit_limit

    return int(vm_commit_limit(program))


def _committed(program: drgn.Program) -> int:
    from drgn.helpers.linux.mm import vm_memory_committed

    return int(vm_memory_committed(program))


_ITEMS: tuple[tuple[str, Callable[[drgn.Program], int], str | None], ...] = (
    ("total", _total, None),
    ("free", _free, "total"),
    ("used", lambda program: _total(program) - _free(program), "total"),
    ("buffers", _buffers, "total"),
    ("cached", _cached, "total"),
    ("anonymous", _node("NR_ANON_MAPPED"), "total"),
    ("mapped", _node("NR_FILE_MAPPED"), "total"),
    ("shared", _node("NR_SHMEM"), "total"),
    ("dirty", _node("NR_FILE_DIRTY"), "total"),
    ("writeback", _node("NR_WRITEBACK"), "total"),
    ("slab", _slab, "total"),
    ("slab reclaimable", _reclaimable, "total"),
    ("page tables", _node("NR_PAGETABLE"), "total"),
    ("huge pages", _huge(free=False), None),
    ("huge pages free", _huge(free=True), "huge pages"),
    ("swap", _swap("pages"), None),
    ("swap used", _swap("used_pages"), "swap"),
    ("swap free", _swap("free_pages"), "swap"),
    ("commit limit", _limit, None),
    ("committed", _committed, "commit limit"),
)


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The use of memory."""
    return [Analysis(memory, MemoryRow, needs=frozenset({"types"}))]
