"""Damaged kernels: each analysis ends in bounded time with what it could get, and says what not."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping

import pytest

import phypan
from phypan.linux import modules, stack, tasks

drgn = pytest.importorskip("drgn")

PAGE = 1 << 16
ANALYSES = ("sys", "triage", "dmesg", "ps", "bt", "modules", "memory", "slab", "files", "mounts",
            "runqueue", "irq", "timers", "net", "sockets", "cpus", "locks")  # fmt: skip
MOST = 20  # seconds of the processor for one analysis; whole ones take less than one


def damage(dump: phypan.Dump, words: Mapping[int, bytes]) -> None:
    """Put other bytes at physical addresses of a dump that was just opened."""
    pages: dict[int, bytearray] = {}
    for address, data in words.items():
        start = address // PAGE * PAGE
        if start not in pages:
            pages[start] = bytearray(dump.memory.read(start, PAGE))
        pages[start][address - start : address - start + len(data)] = data
        assert len(pages[start]) == PAGE
    ours = [phypan.Extent(at, PAGE, phypan.BytesStore(bytes(p)), 0) for at, p in pages.items()]
    kept, _ = phypan.without_overlaps([*ours, *dump.memory.extents])
    dump.memory = phypan.Memory(kept)


def physical(address: int) -> int:
    """Of an address in the linear map."""
    assert address >> 60 == 0xC
    return address & (1 << 60) - 1


def run(dump: phypan.Dump, name: str, /, **options) -> list:
    """The rows until it ends, one way or the other."""
    rows: list = []
    start = time.process_time()
    with contextlib.suppress(phypan.PhypanError):  # the rows before it count
        rows.extend(phypan.run(dump, name, **options))
    assert time.process_time() - start < MOST, name
    return rows


@pytest.fixture(params=["le-hash8", "be-radix9"])
def path(request, real_dump):
    return real_dump(request.param).path


@pytest.fixture
def whole(path):
    """The dump as it is, to look for what to damage."""
    with phypan.open(path) as dump:
        yield dump


def test_a_list_of_tasks_that_goes_in_circles_is_left(path, whole) -> None:
    """Both the tree of pids and the list behind it."""
    order = whole.byte_order
    found = {task.comm: task.task for task in tasks.each(whole)}
    one = physical(int(found["phypan_bravo"].tasks.address_of_()))
    self = (int(found["phypan_bravo"].tasks.address_of_())).to_bytes(8, order)
    namespace = whole.program["init_pid_ns"].idr.idr_rt.xa_head
    root = physical(int(namespace.address_of_()))
    with phypan.open(path) as dump:
        damage(dump, {one: self, root: (0xC000000000000002).to_bytes(8, order)})
        ours = {row.comm for row in run(dump, "ps")}
        assert "phypan_alpha" in ours
        assert "phypan_bravo" in ours
        assert any("comes twice" in problem.what for problem in dump.problems)


def test_a_list_of_modules_that_goes_nowhere_is_left(path, whole) -> None:
    head = physical(int(whole.program["modules"].address_of_()))
    for target in (0xC000000000001230, 0, 0x5A5A5A5A5A5A5A5A):
        with phypan.open(path) as dump:
            damage(dump, {head: target.to_bytes(8, dump.byte_order)})
            list(modules.each(dump))
            assert dump.problems
            assert {row.comm for row in run(dump, "ps")} >= {"phypan_alpha"}


def test_a_stack_whose_back_chain_goes_in_circles_is_left(path, whole) -> None:
    task = next(task for task in tasks.each(whole) if task.comm == "phypan_alpha")
    frames = stack.unwind(whole, task.task)
    middle = frames[len(frames) // 2]
    for target in (middle.sp, frames[0].sp, frames[1].sp, 0, 1, 0xC000000000000008):
        with phypan.open(path) as dump:
            damage(dump, {physical(middle.sp): target.to_bytes(8, dump.byte_order)})
            rows = run(dump, "bt", pids=(task.pid,))
            assert 0 < len(rows) <= 2 * stack._MAX_FRAMES
            assert [row.pc for row in rows[:3]] == [frame.pc for frame in frames[:3]]


@pytest.mark.parametrize("seed", range(2))
def test_random_damage_everywhere_in_the_kernels_data(path, whole, seed) -> None:
    """Words of nonsense, of small numbers, of pointers to other things, in the first 64 MiB."""
    chance = random.Random(f"{path.name} {seed}")
    info = whole.vmcoreinfo
    begin = physical(info.symbol("_stext")) + (8 << 20)
    words = {}
    while len(words) < 3000:
        at = begin + chance.randrange((64 << 20) - begin) // 8 * 8
        value = chance.choice([chance.getrandbits(64), chance.randrange(256), 0, (1 << 64) - 1,
                               0xC << 60 | chance.randrange(64 << 20) & ~7])  # fmt: skip
        if isinstance(whole.memory.at(at), phypan.Extent):
            words[at] = value.to_bytes(8, whole.byte_order)
    with phypan.open(path) as dump:
        damage(dump, words)
        for name in ANALYSES:
            run(dump, name)
        run(dump, "bt", all=True)
        run(dump, "struct", name="task_struct", place="init_task", deep=True)
        run(dump, "search", pattern="phypan_", end="4000000")
        run(dump, "strings", space="kernel", limit=1000)
        run(dump, "diff", other=path, section=("kernel", "tasks", "modules", "log"))


@pytest.mark.parametrize("symbol", ["__start_BTF", "kallsyms_names", "kallsyms_token_table",
                                    "kallsyms_offsets"])  # fmt: skip
def test_random_damage_of_types_and_symbols(path, whole, symbol) -> None:
    start = whole.symbols.address(symbol) or whole.vmcoreinfo.symbol(symbol)
    assert start
    chance = random.Random(symbol)
    for size in (24, 4096, 500_000):
        places = {physical(start) + chance.randrange(size) for _ in range(60)}
        with phypan.open(path) as dump:
            damage(dump, {place: bytes([chance.randrange(256)]) for place in places})
            for name in ("sys", "triage", "ps", "bt"):
                rows = run(dump, name)
                assert rows or dump.problems or dump.types is None
            assert run(dump, "dmesg"), "which needs neither"


def looping(root: int) -> dict[int, bytes]:
    """Every entry of the kernel's root leads back to the root."""
    entry = root | 1 << 63 | 0xD
    return {root + at: entry.to_bytes(8, "big") for at in range(0, PAGE, 8)}


def of_zeros(root: int) -> dict[int, bytes]:
    """Every entry of the kernel's root is cleared."""
    return {root: bytes(PAGE)}


def of_noise(root: int) -> dict[int, bytes]:
    """Every entry of the kernel's root leads to memory that there is not."""
    return {root + at: ((3 << 62) | at << 44 | 5).to_bytes(8, "big") for at in range(0, PAGE, 8)}


@pytest.mark.parametrize("destroyed", [looping, of_zeros, of_noise])
def test_page_tables_that_are_destroyed(path, whole, destroyed) -> None:
    """The log is in the linear map, which the kernel itself translates without tables."""
    root = physical(whole.symbols.address("swapper_pg_dir"))
    messages = run(whole, "dmesg")
    with phypan.open(path) as dump:
        damage(dump, destroyed(root))
        assert run(dump, "dmesg") == messages
        assert dump.problems or dump.spaces.era.mmu == "hash", "which has no tables of it"
        for name in ("sys", "triage", "modules", "mounts"):
            run(dump, name)
        assert {row.comm for row in run(dump, "ps")} >= {"phypan_alpha"}
