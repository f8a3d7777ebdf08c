"""search: every place, as a search byte by byte finds it, and who owns it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phypan
from phypan.linux import stack, tasks


def made(data: bytes, order: str = "little", at: int = 0x10000) -> phypan.Dump:
    memory = phypan.Memory([phypan.Extent(at, len(data), phypan.BytesStore(data), 0)])
    dump = phypan.Dump("made", memory, byte_order=order)  # type: ignore[arg-type]
    dump.kernel.__dict__.update(symbols=phypan.linux.symbols.Symbols(), types=None)
    return dump


def places(dump: phypan.Dump, pattern: str, **options) -> list[int]:
    return [row.physical for row in phypan.run(dump, "search", pattern=pattern, **options)]


@given(st.lists(st.sampled_from([b"ab", b"a", b"\0", b"aba", b"x"]), max_size=30).map(b"".join),
       st.sampled_from(["ab", "aba", "a", "ax"]))  # fmt: skip
def test_every_place_is_found_and_no_other(data, text) -> None:
    found = places(made(data or b"-"), text, limit=0)
    assert found == [0x10000 + n for n in range(len(data)) if data[n:].startswith(text.encode())]


@pytest.mark.parametrize("order", ["little", "big"])
def test_numbers_are_aligned_and_of_the_kernels_byte_order(order) -> None:
    word, half = (0xC000000000123400).to_bytes(8, order), (0xCAFE).to_bytes(4, order)
    dump = made(word + half + word + half + b"\0\0" + half + bytes(2) + word, order)
    assert places(dump, "c000000000123400", kind="pointer") == [0x10000, 0x10020]
    assert places(dump, "0xc000000000123400", kind="u64") == [0x10000, 0x10020]
    assert places(dump, "51966", kind="u32") == [0x10008, 0x10014]
    assert places(dump, half.hex(), kind="bytes") == [0x10008, 0x10014, 0x1001A]


def test_a_regular_expression_and_a_range() -> None:
    dump = made(b"panic-1 panic-22 panic-333")
    rows = list(phypan.run(dump, "search", pattern=r"panic-\d+", kind="regex"))
    assert [row.found for row in rows] == ["panic-1", "panic-22", "panic-333"]
    assert [row.address for row in rows] == [0xC000000000010000 + n for n in (0, 8, 17)]
    assert places(dump, "panic", start="10001", end="10012") == [0x10008]


def test_a_border_between_pieces_hides_nothing_and_doubles_nothing() -> None:
    data = bytearray(40 << 20)
    at = [(16 << 20) - 3, (16 << 20) + 100, (32 << 20) - 1, (40 << 20) - 6]
    for place in at:
        data[place : place + 6] = b"needle"
    dump = made(bytes(data))
    for kind in ("text", "regex"):
        assert [p - 0x10000 for p in places(dump, "needle", kind=kind)] == at


def test_it_is_left_at_the_limit_and_says_so() -> None:
    dump = made(b"x" * 100)
    assert len(places(dump, "x", limit=7)) == 7
    assert [problem.what for problem in dump.problems] == ["there are more than 7 places"]
    assert len(places(made(b"x" * 7), "x", limit=7)) == 7


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [("", "text"), ("abc", "bytes"), ("xy", "bytes"), ("ten", "u32"), ("-1", "u64"),
     (str(1 << 32), "u32"), ("(", "regex"), ("\udc80", "text"), ("", "bytes"), ("", "pointer"),
     ("7-5", "u64"), ("5-", "u64"), ("\udc80", "regex"), ("no_such_symbol", "pointer")],
)  # fmt: skip
def test_what_is_no_pattern_is_refused(pattern, kind) -> None:
    with pytest.raises(phypan.Unsupported):
        places(made(b"abc"), pattern, kind=kind)


def test_symbols_own_what_is_in_them(opened) -> None:
    rows = list(phypan.run(opened, "search", pattern="Linux version 6", limit=0))
    banner = opened.symbols.address("linux_banner")
    assert banner in [row.address for row in rows]
    owners = {row.address: row.owner for row in rows}
    assert owners[banner].startswith("linux_banner+0x0/")
    assert "__log_buf" in " ".join(filter(None, owners.values()))


def test_a_task_owns_its_stack(opened) -> None:
    task = next(task for task in tasks.each(opened) if task.comm == "phypan_alpha")
    frame = stack.unwind(opened, task.task)[2]
    rows = list(phypan.run(opened, "search", pattern=f"{frame.sp:x}", kind="pointer"))
    assert f"stack of phypan_alpha ({task.pid})" in {row.owner for row in rows}


def test_objects_and_pages_own_the_rest(opened) -> None:
    """The name of a process stands in its task_struct, and in its arguments."""
    rows = list(phypan.run(opened, "search", pattern="phypan_charlie\0", limit=0))
    owners = {row.physical: row.owner for row in rows}
    task = next(task for task in tasks.each(opened) if task.comm == "phypan_charlie")
    comm = int(task.task.comm.address_of_())
    offset = comm - int(task.task)
    assert owners[comm & (1 << 60) - 1] == f"task_struct object {int(task.task):016x}+{offset:#x}"
    assert "user page" in owners.values()


def test_the_owner_of_each_place_in_an_object_is_that_object(opened) -> None:
    """By drgn, which looks at each address anew."""
    from drgn.helpers.linux.slab import slab_object_info

    owners = phypan.Owners(opened)
    seen = 0
    for task in tasks.each(opened):
        for address in (int(task.task.mm), int(task.task.files), int(task.task.signal)):
            found = address and slab_object_info(opened.program, address + 9)
            if found and not opened.symbols.at(address):
                name = found.slab_cache.name.string_().decode()
                expected = f"{name} object {address:016x}+0x9"
                assert owners.of((address + 9) & (1 << 60) - 1) == expected
                seen += 1
    assert seen > 20


def test_memory_of_a_module_is_the_modules(kernel) -> None:
    found = [s for s in kernel.symbols.tables if s.module] if kernel.types else []
    if not found:
        pytest.skip("no module is loaded, or its symbols are lost without types")
    symbol = next(symbol for symbol in map(found[0].symbol, range(len(found[0]))) if symbol.is_text)
    physical = kernel.spaces["kernel"].physical(symbol.address)
    owner = phypan.Owners(kernel).of(physical)
    assert owner == kernel.symbols.describe(symbol.address)
    assert owner.endswith(f"[{found[0].module}]")


def test_what_the_kernel_gave_up_after_booting_is_not_its_functions(kernel) -> None:
    """Others have that memory, modules too, where functions of __init once were."""
    first = kernel.symbols.address("__init_begin")
    end = kernel.symbols.address("__init_end") or kernel.symbols.address("_einittext")
    owners = phypan.Owners(kernel)
    named = {owners.of(at & (1 << 60) - 1) for at in range(first, end, 65536)}
    functions = [name for name in named if name and "+0x" in name and " object " not in name]
    assert all(name.endswith("]") for name in functions), functions


def test_by_the_kernels_addresses_and_by_those_of_a_process(opened) -> None:
    banner = opened.symbols.address("linux_banner")
    rows = list(phypan.run(opened, "search", pattern="Linux version 6.12", space="kernel", limit=0))
    assert banner in {row.address for row in rows}
    by_memory = phypan.run(opened, "search", pattern="Linux version 6.12", limit=0)
    assert {row.physical for row in rows} == {row.physical for row in by_memory}
    task = next(task for task in tasks.each(opened) if task.comm == "phypan_alpha")
    (row, *_) = phypan.run(opened, "search", pattern="/bin/phypan_alpha", pid=task.pid)
    space = opened.spaces.named("kernel", pid=task.pid)
    assert space.read(row.address, 17) == b"/bin/phypan_alpha"
    assert int(task.task.mm.arg_start) <= row.address < int(task.task.mm.env_end)


def test_pointers_into_a_range_are_those_that_stand_there(opened) -> None:
    """All pointers to somewhere in the task_struct of a task are what a slow search finds."""
    task = next(task for task in tasks.each(opened) if task.comm == "phypan_alpha")
    first, last = (
        int(task.task),
        int(task.task) + opened.program.type("struct task_struct").size - 1,
    )
    start, end = 0x1000000, 0x3000000
    rows = phypan.run(opened, "search", pattern=f"{first:x}-{last:x}", kind="pointer", limit=0,
                      start=f"{start:x}", end=f"{end:x}")  # fmt: skip
    found = {row.physical: int(row.found, 16) for row in rows}
    expected = {}
    for address, data in opened.memory.stretches(start, end):
        for at in range(0, len(data) - 7, 8):
            value = int.from_bytes(data[at : at + 8], opened.byte_order)
            if first <= value <= last:
                expected[address + at] = value
    assert found == expected


def test_a_pointer_may_be_named(opened) -> None:
    rows = list(phypan.run(opened, "search", pattern="init_task", kind="pointer", limit=0))
    address = opened.symbols.address("init_task")
    assert {row.found for row in rows} == {f"{address:#x}"}
    assert len(rows) > 10


@pytest.mark.parametrize("mode", ["numba", "numpy", "plain"])
def test_the_same_without_numba_and_numpy(real, monkeypatch, mode) -> None:
    monkeypatch.setenv("PHYPAN_KERNELS", mode)
    with phypan.open(real.path) as dump:
        found = places(dump, "Linux version 6.12", start="400000", end="c00000", limit=0)
        assert found
        assert found == list(dump.memory.find(b"Linux version 6.12", 0x400000, 0xC00000))


def test_a_compressed_dump_has_the_same_places(real_dump, tmp_path) -> None:
    with phypan.open(real_dump("be-radix9").path) as dump:
        phypan.convert(dump, tmp_path / "vmcore", format="kdump")
        expected = places(dump, "phypan_alpha", limit=0)
        numbers = places(dump, "0x100000000-0x100000010", kind="u64", limit=0)
    with phypan.open(tmp_path / "vmcore") as dump:
        assert places(dump, "phypan_alpha", limit=0) == expected
        assert places(dump, "0x100000000-0x100000010", kind="u64", limit=0) == numbers
    assert len(expected) > 5
    assert len(numbers) > 5


def test_from_the_command_line(real, phypan_command) -> None:
    done = phypan_command("search", real.path, "Linux version [0-9.]+", "--kind", "regex",
                          "--end", "c00000", "-r", "json")  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert {row["found"] for row in json.loads(done.out)["rows"]} == {"Linux version 6.12.107"}
