"""diff: what was changed is found, and nothing where nothing was; two real crashes."""

from __future__ import annotations

import json

import pytest

import phypan
from tests.linux.test_hostile import damage, physical


def rows(dump: phypan.Dump, other, *section: str) -> list:
    return list(phypan.run(dump, "diff", other=other, section=section))


def told(found: list) -> list[tuple]:
    return [(row.section, row.item, row.first, row.second) for row in found]


@pytest.mark.parametrize("name", ["le-hash8", "be-radix9"])
def test_a_dump_and_the_vmcore_made_of_it_are_the_same(real_dump, tmp_path, name) -> None:
    """Compressed and filtered: what was left out is only in one, and what is there is the same."""
    real = real_dump(name)
    with phypan.open(real.path) as dump:
        phypan.convert(dump, tmp_path / "vmcore", format="kdump", dump_level=31)
        found = rows(dump, tmp_path / "vmcore")
    assert {row.section for row in found} == {"pages"}
    values = {row.item: (row.first, row.second) for row in found}
    assert set(values) == {"pages that only one has", "pages that both have"}
    left_out, more = values["pages that only one has"]
    assert int(left_out) > 1000
    assert more == "0"


def changed(path, words: dict[int, bytes], tmp_path):
    """A vmcore of a dump in which some bytes are others."""
    with phypan.open(path) as dump:
        damage(dump, words)
        phypan.convert(dump, tmp_path / "changed")
    return tmp_path / "changed"


def test_a_word_of_code_and_a_page_of_data_that_were_changed(real_dump, tmp_path) -> None:
    path = real_dump("le-radix10").path
    with phypan.open(path) as dump:
        schedule = dump.symbols.address("schedule")
        comm = physical(dump.symbols.address("init_task"))
        comm += dump.program.type("struct task_struct").member("comm").offset
        words = {physical(schedule) + 8: b"\x60\0\0\0", comm: b"swopper"}
        other = changed(path, words, tmp_path)
        before = dump.memory.read(physical(schedule) + 8, 4)
        found = rows(dump, other)
    by_section = {row.section: row for row in found}
    code = by_section["code"]
    assert code.item == f"{schedule + 8:016x} schedule+0x8/0x124"
    assert code.first.split()[0] == before.hex()
    assert code.second.split()[0] == "60000000"
    assert ("tasks", "0 swapper/0", "RU", None) in told(found)
    assert ("tasks", "0 swopper/0", None, "RU") in told(found)
    assert ("pages", "of them, different", "2", None) in told(found)
    assert ("pages", "different, kernel pages", "2", None) in told(found)
    assert not {"registers", "modules", "log"} & set(by_section)


def test_two_crashes(real_dump) -> None:
    one, two = real_dump("le-radix10"), real_dump("le-hash8")
    with phypan.open(one.path) as dump:
        found = told(rows(dump, two.path, "kernel", "log", "registers"))
    facts = {item: (first, second) for section, item, first, second in found}
    assert facts["MMU"] == ("radix, 64K pages", "hash, 64K pages")
    messages = [row for row in found if row[0] == "log"]
    first = {message for _, _, message, _ in messages if message}
    second = {message for _, _, _, message in messages if message}
    assert any(text.startswith("radix-mmu:") for text in first)
    assert any(text.startswith("hash-mmu:") for text in second)
    assert not first & second
    assert any(item.endswith(" GPR01") for section, item, _, _ in found if section == "registers")


def test_what_one_dump_lacks_is_said(real_dump, tmp_path) -> None:
    folder = tmp_path / "model"
    phypan.simulate(folder, memory="160M", boot_memory="16M", cpus=1)
    with phypan.open(real_dump("be-radix9").path) as dump:
        found = rows(dump, folder, "tasks", "modules", "log")
        assert {row.section for row in found} <= {"log"}
        said = {problem.where for problem in dump.problems}
        assert {"tasks", "modules"} <= said


def test_what_cannot_be_opened_or_compared_is_refused(opened, tmp_path) -> None:
    with pytest.raises(phypan.InputError):
        rows(opened, tmp_path / "nothing")
    with pytest.raises(phypan.Unsupported, match="no section 'taskz'"):
        rows(opened, tmp_path, "taskz")


def test_from_the_command_line(real_dump, phypan_command) -> None:
    """Paths and several values of an option come from the signature, as a stranger's would."""
    one, two = real_dump("le-radix10").path, real_dump("le-hash8").path
    done = phypan_command(
        "diff", one, two, "--section", "kernel", "--section", "modules", "-r", "json"
    )
    assert done.code == 0
    assert {row["section"] for row in json.loads(done.out)["rows"]} == {"kernel"}
    assert "--other-regions PATH" in phypan_command("diff", "--help").out
