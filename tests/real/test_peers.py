"""What crash, drgn, gdb, libkdumpfile and readelf make of phypan's vmcores of real kernels.

They are asked the same of the file that the second kernel built itself. Where that one is read
well, the answers must be the same; where it is not, phypan's must be better.
"""

from __future__ import annotations

import json
import re
import subprocess
from types import SimpleNamespace

import pytest

import phypan
from phypan.formats import regsave
from tests.needs import missing
from tests.synthetic import MIB, Partition

SYSRQ = [  # the way of `echo c > /proc/sysrq-trigger` through the kernel, from the end
    "panic", "sysrq_handle_crash", "__handle_sysrq", "write_sysrq_trigger", "proc_reg_write",
    "vfs_write", "ksys_write", "system_call_exception",
]  # fmt: skip
# Functions of an ELFv1 kernel, big-endian, have a dot before their names.
FRAME = re.compile(r"^ ?#\d+ \[[0-9a-f]+\] \.?(\S+) at", re.MULTILINE)
COMMANDS = ("sys", "bt", "bt -a", "ps", "log")


def told_by_the_guest(real) -> dict[str, int]:
    """Process ids by name, as the guest printed them before it crashed."""
    return {name: int(pid) for pid, name in re.findall(r"^pid (\d+) (\w+)$", real.truth, re.M)}


def test_crash_gives_the_same_answers_as_on_the_kernels_own(real, vmcores, crash) -> None:
    both = vmcores(real)
    ours, theirs = (crash(real, path, *COMMANDS) for path in (both.ours, both.kernels))
    assert set(ours) == {"messages", *COMMANDS}, ours["messages"][-500:]
    for command in COMMANDS:
        mine, other = ours[command], theirs[command]
        if command == "sys":
            mine, other = (re.sub(r"DUMPFILE: .*\n", "", text) for text in (mine, other))
        assert mine == other, command
    big = real.name.startswith("be")
    assert ("incomplete" in theirs["messages"].lower() + theirs["sys"].lower()) == big
    assert "incomplete" not in ours["messages"].lower() + ours["sys"].lower()
    assert_it_is_what_the_guest_said(real, ours)


def assert_it_is_what_the_guest_said(real, said: dict[str, str]) -> None:
    assert 'PANIC: "Kernel panic - not syncing: sysrq triggered crash"' in said["sys"]
    assert re.search(r"CPUS: 2\n", said["sys"])
    for name, pid in told_by_the_guest(real).items():
        assert re.search(rf"^>? +{pid} .* {name}$", said["ps"], re.M), name
    assert [name for name in FRAME.findall(said["bt"]) if name in SYSRQ] == SYSRQ
    for number in range(20):
        assert f"phypan-log: numbered line {number} " in said["log"]
    assert said["log"].rstrip().endswith("Kernel panic - not syncing: sysrq triggered crash")


@pytest.fixture
def drgn():
    """The module, if it is installed."""
    try:
        import drgn
        from drgn.helpers.linux import cpu_curr, find_task, for_each_online_cpu, for_each_task
    except ImportError:
        missing("drgn is not installed")

    def program(real, vmcore):
        prog = drgn.Program()
        prog.set_core_dump(str(vmcore))
        prog.load_debug_info([str(real.vmlinux)])
        return prog

    return SimpleNamespace(
        program=program, cpu_curr=cpu_curr, find_task=find_task,
        for_each_online_cpu=for_each_online_cpu, for_each_task=for_each_task,
    )  # fmt: skip


def names(trace) -> list[str]:
    return [frame.name for frame in trace if frame.name]


def test_drgn_unwinds_the_crashed_thread_and_knows_every_task(real, vmcores, drgn) -> None:
    prog = drgn.program(real, vmcores(real).ours)
    thread = prog.crashed_thread()
    found = names(thread.stack_trace())
    assert [name for name in found if name in SYSRQ] == SYSRQ
    assert thread.tid == drgn.cpu_curr(prog, crashed_cpu(real)).pid.value_()
    assert list(drgn.for_each_online_cpu(prog)) == [0, 1]
    tasks = {int(task.pid): task.comm.string_().decode() for task in drgn.for_each_task(prog)}
    for name, pid in told_by_the_guest(real).items():
        assert tasks[pid] == name[:15]
    asleep = names(prog.stack_trace(drgn.find_task(prog, told_by_the_guest(real)["phypan_alpha"])))
    assert asleep[0] == "__switch_to"
    assert "schedule" in asleep


def crashed_cpu(real) -> int:
    with phypan.open(real.path) as dump:
        return dump.crashing_cpu.number


def test_drgn_sees_the_same_tasks_in_the_kernels_own_and_no_crashed_stack(
    real, vmcores, drgn
) -> None:
    """That is why CRASHTIME is not in phypan's VMCOREINFO."""
    both = vmcores(real)
    ours, theirs = (drgn.program(real, path) for path in (both.ours, both.kernels))
    listed = [
        [(int(task.pid), task.comm.string_()) for task in drgn.for_each_task(prog)]
        for prog in (ours, theirs)
    ]
    assert listed[0] == listed[1]
    with pytest.raises(LookupError, match="registers for CPU"):
        theirs.crashed_thread().stack_trace()


def gdb(peer, *commands: str) -> str:
    """What gdb says to the commands, one after the other."""
    arguments = [part for command in commands for part in ("-ex", command)]
    done = subprocess.run(
        [peer("gdb-multiarch"), "-batch", "-nx", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_gdb_shows_threads_registers_and_memory(real, vmcores, peer) -> None:
    with phypan.open(real.path) as dump:
        cpus = dump.cpus
        banner = phypan.run(dump, "info")
        release = next(row.value for row in banner if row.item == "release")
    questions = [
        question
        for cpu in cpus
        for question in (
            f"thread {cpu.number + 1}",
            r'printf "nip %lx r1 %lx msr %lx\n",$pc,$r1,$msr',
        )
    ]
    out = gdb(
        peer, f"file {real.vmlinux}", f"core-file {vmcores(real).ours}", "info threads",
        *questions, f"thread {crashed_cpu(real) + 1}", "bt 12",
        "print init_task.comm", "print init_uts_ns.name.release",
    )  # fmt: skip
    assert "The current thread has terminated" not in out
    assert re.findall(r"nip (\w+) r1 (\w+) msr (\w+)", out) == [
        tuple(f"{cpu.regs()[name]:x}" for name in ("nip", "gpr1", "msr")) for cpu in cpus
    ]
    frames = re.findall(r"^#\d+ .*? in (\w+) \(", out, re.M)
    assert [name for name in frames if name in SYSRQ][:4] == SYSRQ[:4]
    assert '"swapper/0' in out
    assert f'"{release}' in out


def test_gdb_refuses_the_kernels_own(real, vmcores, peer) -> None:
    """A pr_pid of 0 for every CPU: so phypan writes another."""
    out = gdb(peer, f"core-file {vmcores(real).kernels}", "info threads", "print $pc")
    assert "The current thread has terminated" in out


REGISTERS = {
    cpu: {
        name: (cpu + 1 << 20 | n) if name in regsave.FOUR_BYTES else (cpu + 1) << 60 | n << 32 | n
        for n, name in enumerate(regsave.REGISTERS)
    }
    for cpu in (0, 1)
}


@pytest.mark.parametrize("order", ["big", "little"])
def test_gdb_reads_every_vector_register_that_firmware_saved(folder, peer, order) -> None:
    """From a save area in LoPAR's layout with all 502 identifiers, which QEMU does not write."""
    partition = Partition(order, registers=REGISTERS)
    with phypan.open(partition.save_to(folder / "crashed")) as dump:
        phypan.convert(dump, folder / "vmcore", registers="firmware")
    questions = []
    expected = []
    for cpu, saved in REGISTERS.items():
        questions.append(f"thread {cpu + 1}")
        for n in range(32):
            high, low = saved[f"VR{n:02}_HI"], saved[f"VR{n:02}_LO"]
            questions += [f"output/x $vr{n}.uint128", r"echo \n", f"info registers f{n}"]
            expected += [f"{high << 64 | low:#x}", f"(raw {saved[f'FPR{n:02}']:#018x})"]
            questions += [f"output/x $vs{n}.uint128", r"echo \n"]
            questions += [f"output/x $vs{n + 32}.uint128", r"echo \n"]
            low = saved[f"VSR{n:02}_LO"]
            expected += [f"{saved[f'FPR{n:02}'] << 64 | low:#x}", expected[-2]]
        for name, register in {
            "vscr": "VSCR", "vrsave": "VRSAVE", "pc": "NIA", "msr": "MSR", "lr": "LR", "ctr": "CTR",
            "cr": "CR", "r31": "GPR31",
        }.items():  # fmt: skip
            questions += [f"output/x ${name}", r"echo \n"]
            expected.append(f"{saved[register]:#x}")
    out = gdb(peer, f"core-file {folder / 'vmcore'}", *questions)
    lines = out[out.index("[Switching to thread 1") if "[Switching to thread 1" in out else 0 :]
    found = re.findall(r"^0x[0-9a-f]+$|\(raw 0x[0-9a-f]+\)", lines, re.M)
    assert found == expected
    memory = gdb(peer, f"core-file {folder / 'vmcore'}", "x/2xg 0xc000000000000000 + 0x100000")
    words = [int(word, 16) for word in re.findall(r"\t(0x\w+)", memory)]
    data = bytes(partition.before[MIB : MIB + 16])
    assert words == [int.from_bytes(data[:8], order), int.from_bytes(data[8:], order)]


KDUMPFILE = """
import hashlib, json, sys, kdumpfile
file = kdumpfile.kdumpfile(sys.argv[1])
file.attr["addrxlat.ostype"] = "linux"
said = {}
def walk(place, prefix):
    for name in place:
        value = place[name]
        if hasattr(value, "keys"):
            walk(value, prefix + name + ".")
        elif isinstance(value, (int, str)):
            said[prefix + name] = value
walk(file.attr, "")
memory = []
for address in map(int, sys.argv[2:]):
    for space, start in ((kdumpfile.KDUMP_KPHYSADDR, 0), (kdumpfile.KDUMP_KVADDR, 0xc << 60)):
        memory.append(hashlib.sha256(file.read(space, start + address, 65536)).hexdigest())
print(json.dumps([said, memory]))
"""


def test_libkdumpfile_reads_attributes_registers_and_memory(real, vmcores, libkdumpfile) -> None:
    import hashlib

    both = vmcores(real)
    places = [0, 0x10000, 0x4000000, 0x13FF0000, 0x28020000, 0x4FFF0000]
    ours, theirs = (
        json.loads(libkdumpfile(KDUMPFILE, path, *places)) for path in (both.ours, both.kernels)
    )
    assert ours[1] == theirs[1]
    with phypan.open(real.path) as dump:
        checksums = [hashlib.sha256(dump.memory.view(at, 65536)).hexdigest() for at in places]
        assert ours[1] == [checksum for checksum in checksums for _ in range(2)]
        for cpu in dump.cpus:
            regs = cpu.regs()
            told = {
                name.rpartition(".")[2]: value
                for name, value in ours[0].items()
                if name.startswith(f"cpu.{cpu.number}.reg.")
            }
            assert told, "it knows the registers by name"
            for name, value in told.items():
                theirs_name = {"pc": "nip", "or3": "orig_gpr3", "lnk": "link"}.get(name, name)
                theirs_name = re.sub(r"^gpr0(\d)$", r"gpr\1", theirs_name)
                if theirs_name in regs_names():
                    assert value == regs[theirs_name], name
    said = ours[0]
    assert said["arch.name"] == "ppc64"
    assert said["arch.byte_order"] == (0 if real.name.startswith("be") else 1)
    assert said["arch.page_size"] == 65536
    assert said["cpu.number"] == 2
    different = {
        name for name in said.keys() | theirs[0].keys() if said.get(name) != theirs[0].get(name)
    }
    allowed = re.compile(r"file\..*|cache\..*|cpu\.\d\.pid|.*\.(CRASHTIME|raw)")
    assert {name for name in different if not allowed.fullmatch(name)} == set()


def regs_names() -> frozenset[str]:
    from phypan.formats import pt_regs

    return frozenset(pt_regs.NAMES)


def test_readelf_names_the_notes(real, vmcores, peer) -> None:
    said = subprocess.run(
        [peer("readelf"), "-hlnW", vmcores(real).ours], capture_output=True, text=True, check=True
    )
    assert said.stderr == ""
    assert re.search(r"Type: +CORE", said.stdout)
    assert re.search(r"Machine: +PowerPC64", said.stdout)
    assert len(re.findall(r"NT_PRSTATUS", said.stdout)) == 2
    assert "VMCOREINFO" in said.stdout
    assert len(re.findall(r"^  LOAD", said.stdout, re.M)) == len(real.loads)


def test_readelf_knows_every_register_note_that_linux_has(folder, peer) -> None:
    partition = Partition("big", registers=REGISTERS)
    with phypan.open(partition.save_to(folder / "crashed")) as dump:
        phypan.convert(dump, folder / "vmcore")
    said = subprocess.run(
        [peer("readelf"), "-nW", folder / "vmcore"], capture_output=True, text=True, check=True
    )
    kinds = re.findall(r"\t(NT_\w+)", said.stdout)
    assert set(kinds) >= {
        "NT_PRSTATUS", "NT_FPREGSET", "NT_PPC_VMX", "NT_PPC_VSX", "NT_PPC_TAR", "NT_PPC_DSCR",
        "NT_PPC_EBB", "NT_PPC_PMU", "NT_PPC_TM_CGPR", "NT_PPC_TM_CFPR", "NT_PPC_TM_CVMX",
        "NT_PPC_TM_CVSX", "NT_PPC_TM_SPR", "NT_PPC_TM_CTAR", "NT_PPC_TM_CDSCR",
    }  # fmt: skip
