"""dmesg: what the kernel printed, line for line, in every format of its log."""

from __future__ import annotations

import phypan
from phypan.formats.vmcoreinfo import Vmcoreinfo
from tests.truth import LINE


def lines(dump: phypan.Dump) -> list[str]:
    rows = list(phypan.run(dump, "dmesg"))
    text = phypan.analyses()["dmesg"].text
    # the console is not sent what is for debugging
    return [line.rstrip() for line in text(row for row in rows if row.level != "debug")]


def test_it_is_what_the_console_showed(opened, truth_of) -> None:
    expected = truth_of(opened).log
    assert len(expected) > 140
    ours = lines(opened)
    assert ours == expected[: len(ours)]
    assert "Kernel panic - not syncing" in "\n".join(ours)


def test_it_is_what_the_console_showed_on_every_kernel(kernel, truth_of) -> None:
    expected = truth_of(kernel).log
    ours = lines(kernel)
    if "hard-lockup" in kernel.source:  # what is printed in an NMI never gets to the console
        ours = ours[: len(expected)]
    # what was printed after the dump was taken is on the console alone
    assert len(ours) > 100
    assert ours == expected[: len(ours)]


def test_levels_and_callers(opened) -> None:
    rows = list(phypan.run(opened, "dmesg"))
    (panic,) = [row for row in rows if row.text.startswith("Kernel panic")]
    assert (panic.level, panic.facility) == ("emerg", 0)
    assert panic.caller.startswith("T")
    said = next(row for row in rows if "about to crash" in row.text)
    assert (said.level, said.facility) == ("warning", 1)
    assert [row.seq for row in rows] == list(range(len(rows)))


def test_it_needs_neither_symbols_nor_types_nor_drgn(real, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "drgn", None)
    with phypan.open(real.path) as dump, phypan.open(real.path) as helped:
        expected = list(phypan.run(helped, "dmesg"))
        text = b"".join(
            line
            for line in dump.vmcoreinfo.text.splitlines(keepends=True)
            if b"kallsyms" not in line
        )
        dump.vmcoreinfo = Vmcoreinfo(text)
        dump.kernel.__dict__["symbols"] = None  # would fail if it were asked
        assert list(phypan.run(dump, "dmesg")) == expected


def test_the_text_is_shown_as_dmesg_shows_it(real, phypan_command) -> None:
    done = phypan_command("dmesg", real.path)
    assert (done.code, done.err) == (0, "")
    assert all(LINE.fullmatch(line) for line in done.out.splitlines())


def test_logs_of_the_model(tmp_path) -> None:
    """The text ring of 2.6.32 and the lockless rings, both written by the model."""
    for number, options in enumerate(
        ({"kernel": "2.6.32"}, {"kernel": "6.12"}, {"kernel": "5.10", "byte_order": "big"})
    ):
        folder = tmp_path / str(number)
        phypan.simulate(folder, memory="700M", cpus=1, **options)
        with phypan.open(folder) as dump:
            texts = [row.text for row in phypan.run(dump, "dmesg")]
            assert any(text.startswith("Linux version") for text in texts)
            assert any("Kernel panic" in text for text in texts)
            assert all(problem.where != "kernel log" for problem in dump.problems)


def test_a_ring_with_wild_ids_is_carved(real_dump) -> None:
    with phypan.open(real_dump("le-radix10").path) as dump:
        text = dump.vmcoreinfo.text.replace(
            b"OFFSET(prb_desc_ring.tail_id)=32", b"OFFSET(prb_desc_ring.tail_id)=8"
        )
        dump.vmcoreinfo = Vmcoreinfo(text)
        rows = list(phypan.run(dump, "dmesg"))
        assert any("Kernel panic - not syncing: sysrq" in row.text for row in rows)
        assert any(problem.where == "kernel log" for problem in dump.problems)
