"""struct: layouts as crash and DWARF have them, objects as drgn reads them."""

from __future__ import annotations

import re

import pytest

import phypan
from phypan.linux import tasks
from tests.linux.test_hostile import damage, physical

drgn = pytest.importorskip("drgn")


def rows(dump: phypan.Dump, name: str, place: str | None = None, **options) -> list:
    return list(phypan.run(dump, "struct", name=name, place=place, **options))


@pytest.mark.parametrize("name", ["mutex", "list_head", "module", "rw_semaphore", "dentry"])
def test_layouts_are_those_of_dwarf(real, name) -> None:
    with phypan.open(real.path) as first, phypan.open(real.path, symbols=[real.vmlinux]) as second:
        found = rows(first, name, deep=True)
        assert found == rows(second, name, deep=True)
        assert found


def test_a_layout_is_what_crash_prints(opened, real_of, crash_says) -> None:
    """Offsets of the members, those of bit fields and unnamed structures left out."""
    said = crash_says(real_of(opened), "struct -o task_struct")
    line = r"^ {2,4}\[(\d+)\] [\w ]*?\**(\w+)(?:\[\d+\])*;$"
    theirs = {match[2]: int(match[1]) for match in re.finditer(line, said, re.MULTILINE)}
    assert len(theirs) > 140
    ours = {row.member: row.offset for row in rows(opened, "task_struct") if row.bits is None}
    assert {name: ours.get(name) for name in theirs} == theirs


def test_bit_fields_are_where_drgn_has_them(opened) -> None:
    of = opened.program.type("struct task_struct")
    fields = {m.name: m for m in of.members if m.bit_field_size is not None}
    assert len(fields) > 5
    ours = {row.member: row for row in rows(opened, "struct task_struct") if row.bits is not None}
    for name, member in fields.items():
        row = ours[name]
        assert 8 * row.offset + row.bit == member.bit_offset
        assert (row.bits, row.size) == (member.bit_field_size, None)


def test_an_object_is_what_drgn_reads(opened) -> None:
    task = next(task for task in tasks.each(opened) if task.comm == "phypan_alpha")
    found = {row.member: row for row in rows(opened, "task_struct", f"{int(task.task):x}")}
    assert int(found["pid"].value) == task.pid
    assert found["comm"].value == '"phypan_alpha"'
    assert found["stack"].value == f"{int(task.task.stack):#x}"
    assert found["parent"].address == int(task.task.parent.address_of_())
    for name, row in found.items():
        member = task.task.member_(name)
        if row.bits is not None:
            assert int(row.value) == int(member)


def test_a_way_leads_through_pointers_and_arrays(opened) -> None:
    init = opened.program["init_task"]
    (row,) = rows(opened, "task_struct", "init_task", member="parent->comm")
    assert row.value == '"swapper/0"'
    (row,) = rows(opened, "task_struct", "init_task", member="cpus_mask.bits[0]")
    assert int(row.value) == int(init.cpus_mask.bits[0])
    of = opened.program.type("struct task_struct")
    expected = drgn.offsetof(of, "se.load.weight")
    assert rows(opened, "task_struct", member="se.load")[0].offset == expected
    (row,) = rows(opened, "task_struct", member="cpus_mask.bits[0]")
    assert row.offset == drgn.offsetof(of, "cpus_mask.bits[0]")
    assert rows(opened, "task_struct", member="mm->pgd")[0].offset == drgn.offsetof(
        opened.program.type("struct mm_struct"), "pgd"
    )


def test_enumerations_and_plain_types(opened) -> None:
    values = {row.member: row.value for row in rows(opened, "pid_type")}
    assert (values["PIDTYPE_PID"], values["PIDTYPE_TGID"]) == ("0", "1")
    (row,) = rows(opened, "unsigned long")
    assert row.size == 8
    (row,) = rows(opened, "int", "nr_threads")
    assert int(row.value) == int(opened.program["nr_threads"])
    (same,) = rows(opened, "nr_threads")
    assert same.value == row.value
    assert rows(opened, "init_task", member="comm")[0].value == '"swapper/0"'


@pytest.mark.parametrize(("name", "place", "member"), [
    ("nonsense", None, ""), ("task_struct", None, "no_such"), ("task_struct", "no_symbol", ""),
    ("task_struct", "init_task", "comm.x"), ("task_struct", "init_task", "]["), ("", None, ""),
    ("task_struct", "1234", "mm->pgd"), ("struct", None, ""), ("task_struct", None, "comm..x"),
    ("list_head", None, "next->next[3].prev->x"),
])  # fmt: skip
def test_what_is_not_there_is_refused(opened, name, place, member) -> None:
    with pytest.raises(phypan.PhypanError):
        rows(opened, name, place, member=member)


def test_an_object_where_nothing_is_has_no_values(real) -> None:
    with phypan.open(real.path) as dump:
        known = len(dump.problems)
        found = rows(dump, "task_struct", "1234")
        assert {row.value for row in found if row.size} == {None}
        assert len(dump.problems) > known


def test_a_damaged_object_is_shown_as_far_as_it_goes(real) -> None:
    with phypan.open(real.path) as whole:
        address = whole.symbols.address("init_task")
    with phypan.open(real.path) as dump:
        damage(dump, {physical(address) + 0x100: b"\x5a" * 2048})
        found = rows(dump, "task_struct", "init_task", deep=True)
        assert len(found) > 300
        assert all(len(row.value or "") <= 4100 for row in found)
