"""Who is suspected: the innermost function that is more than the way to the end."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.formats import pt_regs
from phypan.linux import culprit
from phypan.linux.culprit import Culprit
from phypan.linux.panic import Death, Oops
from phypan.linux.stack import Frame
from phypan.linux.symbols import Symbols, Table

TEXT = 0xC000000000000000
DYING = ["crash_fadump", "ppc_panic_fadump_handler", "atomic_notifier_call_chain", "panic"]
ENTRY = ["vfs_write", "ksys_write", "system_call_exception", "system_call_vectored_common"]


class Named:
    """A dump of which only symbols are needed: each function is 256 bytes."""

    def __init__(self, *names: str) -> None:
        self.names = list(dict.fromkeys(names))
        addresses = [TEXT + 256 * n for n in range(len(self.names))]
        table = Table(addresses, ["T" + name for name in self.names], TEXT + 256 * len(self.names))
        self.symbols = Symbols([table], "kallsyms")

    def frames(self, *names: str, fault: int | None = None) -> list[Frame]:
        """Frames of the functions, innermost first; that of number `fault` is an interrupt's."""
        regs = pt_regs.of(())
        return [
            Frame(n * 64, TEXT + 256 * self.names.index(name) + 16, regs if n == fault else None)
            for n, name in enumerate(names)
        ]


def of(*names: str, kind: str | None = None, fault: int | None = None) -> Culprit:
    dump = Named(*names)
    return culprit.of_stack(dump, dump.frames(*names, fault=fault), kind)


def test_who_called_panic() -> None:
    found = of(*DYING, "sysrq_handle_crash", "__handle_sysrq", *ENTRY)
    assert (found.function, found.module, found.offset) == ("sysrq_handle_crash", None, "0x10")
    assert found.chain == ("sysrq_handle_crash", "__handle_sysrq", "vfs_write")


def test_who_was_interrupted_by_the_fault() -> None:
    names = [*DYING, "oops_end", "die", "bad_page_fault", "data_access_common_virt"]
    found = of(*names, "driver_write", "driver_set", *ENTRY, fault=len(names) - 1)
    assert found.function == "driver_write"
    assert found.chain[:2] == ("driver_write", "driver_set")


def test_a_fault_in_a_helper_that_is_machinery_is_its_callers() -> None:
    names = [*DYING, "die", "program_check_common_virt"]
    assert of(*names, "report_bug", "driver_write", *ENTRY, fault=5).function == "driver_write"


def test_who_waits() -> None:
    found = of("__switch_to", "__schedule", "schedule", "schedule_timeout", "__mutex_lock",
               "mutex_lock_slowpath", "nfs_read", *ENTRY)  # fmt: skip
    assert found.function == "nfs_read"


def test_who_calls_himself() -> None:
    found = of(*DYING, "f", "g", "deep", "deep", "deep", "deep", "driver_write", *ENTRY,
               kind="stack overflow")  # fmt: skip
    assert (found.function, found.chain) == ("deep", ("deep",))


def test_nobody_is_suspected_where_all_is_machinery() -> None:
    assert of(*DYING, "system_call_exception").function is None
    assert of().function is None


def test_frames_without_a_name_are_passed_over() -> None:
    dump = Named(*DYING, "driver_write")
    frames = dump.frames(*DYING, "driver_write")
    frames.insert(4, Frame(None, 0x1234))
    assert culprit.of_stack(dump, frames, None).function == "driver_write"


def test_of_what_the_kernel_printed() -> None:
    calls = [("panic+0x1/0x2", None), ("driver_write.isra.0+0x30/0x60", "m")]
    death = Death(kind="BUG", oops=Oops({"NIP": "0x1000af48"}, calls))
    found = culprit.of_log(death)
    assert (found.function, found.module, found.offset) == ("driver_write", "m", "0x30")
    for kind in ("out of memory", "system reset"):
        assert culprit.of_log(replace(death, kind=kind)) == Culprit()


def test_of_faults_one_within_the_report_of_another_the_outermost_began_it() -> None:
    inner = ["driver_notified", "notify_die", "die", "bad_page_fault", "data_access_common_virt"]
    names = [*inner, "driver_irq", "irq_work_run", "decrementer_common_virt", "idle_loop"]
    dump = Named(*names)
    frames = dump.frames(*names, fault=4)
    frames[7] = replace(frames[7], interrupt=pt_regs.of(()))
    found = culprit.of_stack(dump, frames, "NULL dereference")
    assert found.function == "driver_irq"
    assert found.regs is frames[4].interrupt


def test_a_fault_that_the_kernel_handles_is_none() -> None:
    """The kernel copies from a process, whose page has to be read from a file."""
    names = [*DYING, "fs_read", "handle_mm_fault", "do_page_fault", "data_access_common_virt",
             "copy_from_user", *ENTRY]  # fmt: skip
    dump = Named(*names)
    found = culprit.of_stack(dump, dump.frames(*names, fault=7), "panic")
    assert (found.function, found.regs) == ("fs_read", None)


def test_who_was_interrupted_by_a_watchdog() -> None:
    names = [*DYING, "watchdog_timer_fn", "decrementer_common_virt", "driver_spin", *ENTRY]
    dump = Named(*names)
    frames = dump.frames(*names, fault=5)
    for kind in ("soft lockup", "hard lockup", "RCU stall"):
        assert culprit.of_stack(dump, frames, kind).function == "driver_spin"


def test_a_modules_function_is_never_machinery() -> None:
    """A driver may call its own so."""
    calls = [("machine_check_driver+0x1/0x2", "driver")]
    found = culprit.of_log(Death(kind="machine check", oops=Oops({}, calls)))
    assert found.function == "machine_check_driver"


def test_what_the_log_knows_better() -> None:
    names = [*DYING, "watchdog_timer_fn", "decrementer_common_virt", "idle_loop", *ENTRY]
    dump = Named(*names)
    frames = dump.frames(*names, fault=5)
    oops = Oops({"NIP": "driver_spin+0x4/0x8"}, [])
    assert (
        culprit.find(dump, frames, Death(kind="hard lockup", oops=oops)).function == "driver_spin"
    )
    assert culprit.find(dump, frames, Death(kind="hard lockup")).function == "idle_loop"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (".sys_read", "sys_read"), ("f.isra.0", "f"), ("f.constprop.0.isra.3", "f"),
        ("f.cold", "f"), ("f.llvm.1234567", "f"), ("f+0x10/0x20", "f"), ("f.part.0.cold", "f"),
    ],
)  # fmt: skip
def test_names_without_what_compilers_add(name, plain) -> None:
    assert culprit.plain(name) == plain


@given(st.text(), st.text(), st.none() | st.text())
def test_the_signature_tells_class_function_and_module_apart(kind, function, module) -> None:
    one = culprit.signature(Death(kind=kind), Culprit(function, module))
    again = culprit.signature(Death(kind=kind, message="other"), Culprit(function, module, "0x8"))
    assert one == again
    others = {
        culprit.signature(Death(kind=kind + "x"), Culprit(function, module)),
        culprit.signature(Death(kind=kind), Culprit(function + "x", module)),
        culprit.signature(Death(kind=kind), Culprit(function, (module or "kernel") + "x")),
    }
    assert one not in others
    assert re.search(r" / [0-9a-f]{12}\Z", one)


@given(st.lists(st.sampled_from([*DYING, *ENTRY, "a", "b", "schedule"])), st.integers(0, 9))
def test_the_culprit_is_on_the_stack_and_heads_its_chain(names, fault) -> None:
    for kind in (None, "stack overflow"):
        found = of(*names, kind=kind, fault=fault)
        if found.function is not None:
            assert found.function in names
            assert found.chain[:1] in ((found.function,), ())
