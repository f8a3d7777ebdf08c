"""dump.program: drgn over a dump, by what is in it alone and by a vmlinux."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess

import pytest

import phypan
from phypan.formats.vmcoreinfo import Vmcoreinfo

drgn = pytest.importorskip("drgn")
MEMORY_LINE = "PHYPAN-TRUTH"


def test_symbols_are_where_the_guest_said(real_of, opened) -> None:
    lines = [line.split() for line in real_of(opened).truth.splitlines()]
    said = {line[2]: int(line[0], 16) for line in lines if len(line) == 3 and len(line[1]) == 1}
    assert len(said) == 6
    for name, address in said.items():
        assert opened.symbols.address(name) == address
        found = opened.symbols.at(address)
        assert found is not None
        assert found.address == address


def test_every_symbol_is_one_of_the_vmlinux(real, peer) -> None:
    listed = subprocess.check_output([peer("nm"), real.vmlinux], text=True)
    lines = (line.split() for line in listed.splitlines())
    truth = {(int(line[0], 16), line[2].lstrip(".")) for line in lines if len(line) == 3}
    with phypan.open(real.path) as dump:
        assert dump.symbols.source == "kallsyms"
        ours = {(symbol.address, symbol.name.lstrip(".")) for symbol in dump.symbols}
    assert len(ours) > 30000
    assert ours <= truth


def test_kallsyms_are_found_without_the_help_of_vmcoreinfo(real) -> None:
    with phypan.open(real.path) as dump, phypan.open(real.path) as helped:
        lines = dump.vmcoreinfo.text.splitlines(keepends=True)
        text = b"".join(line for line in lines if b"kallsyms" not in line)
        assert text != dump.vmcoreinfo.text
        dump.vmcoreinfo = Vmcoreinfo(text)
        assert list(dump.symbols) == list(helped.symbols)


def test_kallsyms_and_types_are_found_without_vmcoreinfo(real) -> None:
    with phypan.open(real.path) as dump, phypan.open(real.path) as helped:
        symbols = list(helped.symbols)
        assert list(helped.kernel.btf) == list(dump.kernel.btf)
    with phypan.open(real.path) as dump:
        dump.vmcoreinfo = None
        dump.kernel.__dict__["space"] = dump.spaces["linear"]
        assert list(dump.symbols) == symbols
        assert len(dump.kernel.btf) > 30000


def test_code_is_called_by_name_in_both_abis(opened) -> None:
    """ELFv1 has a descriptor and, with a dot, the code: the name is the code's."""
    symbol = opened.symbols.find("schedule")[0]
    assert symbol.is_text
    assert opened.symbols.describe(symbol.address + 4) == f"schedule+0x4/{symbol.size:#x}"
    assert opened.program.function("schedule").address_ == symbol.address
    assert opened.program.symbol(symbol.address + 4).name.lstrip(".") == "schedule"


def test_the_crashed_thread_is_unwound_to_the_system_call(opened) -> None:
    thread = opened.program.crashed_thread()
    assert thread.object.comm.string_() == b"phypan_crash"
    names = [frame.name.lstrip(".") for frame in thread.stack_trace() if not frame.is_inline]
    assert names[:4] == [
        *("crash_fadump", "ppc_panic_fadump_handler", "atomic_notifier_call_chain", "panic")
    ]
    assert names[4:7] == ["sysrq_handle_crash", "__handle_sysrq", "write_sysrq_trigger"]
    assert names[-2] == "system_call_exception"


def test_tasks_can_be_gone_through(real_of, opened) -> None:
    from drgn.helpers.linux import for_each_task

    names = {task.comm.string_().decode() for task in for_each_task(opened.program)}
    assert {"phypan_alpha", "phypan_bravo", "phypan_charlie", "phypan_busy"} <= names


def test_a_sleeping_task_is_unwound(opened) -> None:
    from drgn.helpers.linux import find_task, for_each_task

    (task,) = [t for t in for_each_task(opened.program) if t.comm.string_() == b"phypan_alpha"]
    assert find_task(opened.program, task.pid).comm.string_() == b"phypan_alpha"
    names = [frame.name for frame in opened.program.stack_trace(task)]
    assert "schedule" in names
    assert "wait_for_partner" in names or "fifo_open" in names


def test_vmalloc_and_vmemmap_are_read(opened) -> None:
    from drgn.helpers.linux import follow_phys, page_to_phys, virt_to_page

    address = opened.program["init_task"].address_
    page = virt_to_page(opened.program, address)
    assert page_to_phys(page).value_() == (address & ~(0xF << 60)) // 65536 * 65536
    assert page.flags.value_() >= 0
    init = opened.program["init_mm"].address_of_()
    assert follow_phys(init, address).value_() == address & ~(0xF << 60)
    # struct page lies in vmemmap: other tables on radix, a list on hash
    behind = follow_phys(init, page.value_()).value_()
    assert opened.program.read(behind, 56, physical=True) == opened.program.read(page, 56)


def test_memory_of_processes_is_read(real_of, opened) -> None:
    from drgn.helpers.linux import access_process_vm, cmdline, environ, for_each_task

    tasks = {task.comm.string_(): task for task in for_each_task(opened.program)}
    assert cmdline(tasks[b"phypan_charlie"]) == [
        *(b"/bin/sh", b"/bin/phypan_charlie", b"one", b"two", b"three")
    ]
    assert access_process_vm(tasks[b"phypan_alpha"], 0x10000000, 4) == b"\x7fELF"
    assert environ(tasks[b"phypan_alpha"])
    with pytest.raises(drgn.FaultError, match="not mapped"):
        access_process_vm(tasks[b"phypan_alpha"], 0x20000000000, 4)


def test_what_is_not_there_faults_with_the_reason(opened) -> None:
    with pytest.raises(drgn.FaultError, match="not mapped") as caught:
        opened.program.read(0xC008000000F00000, 8)
    assert caught.value.address == 0xC008000000F00000
    with pytest.raises(drgn.FaultError, match=r"absent|damaged"):
        opened.program.read(0x14000000 + (1 << 20), 8, physical=True)


def test_a_vmlinux_of_another_build_is_refused(real_dump) -> None:
    little, big = real_dump("le-hash8"), real_dump("be-radix9")
    with phypan.open(little.path, symbols=[big.vmlinux]) as dump:
        with pytest.raises(phypan.InputError, match="another kernel") as caught:
            _ = dump.program
        assert "--force" in caught.value.hint
        assert "c07339d0facf" in str(caught.value)


def test_a_vmlinux_of_another_build_can_be_forced(real_dump, tmp_path, peer) -> None:
    """The same kernel under another build id: drgn has to take it."""
    real = real_dump("le-radix10")
    other = tmp_path / "vmlinux"
    shutil.copy(real.vmlinux, other)
    data = other.read_bytes()
    identifier = bytes.fromhex("c07339d0facf3b2c5b86aa677b5869345fe9661e")
    banner = data.index(b"Linux version 6.12.107-phypan")
    at = data.index(identifier)
    other.chmod(0o600)
    with other.open("r+b") as file:
        file.seek(at)
        file.write(bytes(20))
        file.seek(banner)
        file.write(b"Linux version 6.13")
    with phypan.open(real.path, symbols=[other]) as dump, pytest.raises(phypan.InputError):
        _ = dump.program
    with phypan.open(real.path, symbols=[other], force=True) as dump:
        assert dump.types == "DWARF"
        assert dump.program["init_task"].comm.string_() == b"swapper/0"


def test_what_is_no_vmlinux_is_refused(real_dump, tmp_path) -> None:
    real = real_dump("le-radix10")
    (tmp_path / "text").write_text("not a kernel")
    for path, kind in ((tmp_path / "text", phypan.BadRecord), (tmp_path / "no", phypan.InputError)):
        with phypan.open(real.path, symbols=[path]) as dump, pytest.raises(kind):
            _ = dump.program


def test_a_wild_number_of_symbols_is_a_problem(real_dump) -> None:
    with phypan.open(real_dump("le-radix10").path) as dump:
        info = dump.vmcoreinfo
        text = info.text.replace(
            b"SYMBOL(kallsyms_num_syms)=", b"SYMBOL(kallsyms_num_syms)=c000000000000100 "
        )
        dump.vmcoreinfo = dataclasses.replace(info, text=text)
        assert dump.symbols.address("init_task"), "they are found by their shape"
