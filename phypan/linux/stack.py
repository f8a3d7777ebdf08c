"""Stacks of the crashed kernel: drgn unwinds them, phypan goes on where POWER's interrupts end it.

An interrupt leaves struct pt_regs on the stack, behind a marker (STACK_FRAME_REGS_MARKER in
arch/powerpc/include/asm/ptrace.h); drgn follows the back chain over it and loses the interrupted
function. A stack for interrupts, softirqs or emergencies ends where another one goes on, and drgn
stops when addresses do not rise. At both places a new trace is begun. Without debuginfo drgn
follows the back chain alone, in which a function without a frame hides the one that called it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from phypan.errors import PhypanError, Problem
from phypan.formats import pt_regs
from phypan.formats.pt_regs import PtRegs
from phypan.linux.walk import faults, reason

if TYPE_CHECKING:
    import drgn

    from phypan.dump import Dump

_MARKERS = (  # "REGS" as the kernel reads it; until 6.1 "regshere"
    *(0x52454753, 0x53474552),
    *(0x7265677368657265, 0x6572656873676572),
)
_MARKER_OFFSETS = (32, 96, 112)  # from the stack pointer: ELFv2 since 6.2; ELFv1, and all before
_REGS_BEHIND = 16  # bytes from the marker to struct pt_regs, in each of them
_MAX_FRAMES = 512
_MAX_TRACES = 24  # pieces of one stack: each begins with an interrupt or another stack
_KERNEL = 0xC
_LONGEST = 1 << 16  # bytes of a function's code that are looked at
# stdu r1,n(r1) and stdux r1,r1,n make a frame: (mask, value). Power ISA, Book I, "Store Doubleword"
_MAKE_A_FRAME = ((0xFFFF0003, 0xF8210001), (0xFFFF07FF, 0x7C21016A))


@dataclass(frozen=True)
class Frame:
    """One frame of a stack, innermost first.

    sp         GPR1 of the function: the lowest address of its frame; None if not known
    pc         where it was, or where it will go on
    interrupt  the registers of what was interrupted, if the frame is that of an interrupt
    registers  those that are known, by drgn's names
    source     file and line; None without debuginfo
    inlined    the functions that were inlined here, innermost first; none without debuginfo
    """

    sp: int | None
    pc: int
    interrupt: PtRegs | None = None
    registers: Mapping[str, int] | None = None
    source: str | None = None
    inlined: tuple[str, ...] = ()

    @property
    def in_user_mode(self) -> bool:
        """Whether what was interrupted ran in user mode: the stack ends there."""
        return self.interrupt is not None and bool(self.interrupt["msr"] & pt_regs.MSR_PR)


def unwind(dump: Dump, start: drgn.Object | PtRegs) -> list[Frame]:
    """The frames of a task (struct task_struct *) or from registers on."""
    frames: list[Frame] = []
    try:
        for _ in range(_MAX_TRACES):
            following = _follow(dump, start, frames)
            if following is None or len(frames) >= _MAX_FRAMES:
                return frames
            start = following
    except faults() as error:
        if not frames:
            raise PhypanError(reason(error), where="stack") from error
        dump.problems.append(Problem(reason(error), "stack", "what is above is missing"))
    return frames


def _follow(dump: Dump, start: drgn.Object | PtRegs, frames: list[Frame]) -> PtRegs | None:
    """Add the frames of one of drgn's traces; where to begin the next, if there is one."""
    program = dump.program
    trace = program.stack_trace(_pt_regs(dump, start) if isinstance(start, PtRegs) else start)
    last = None
    for frame in _with_the_caller_of_a_leaf(dump, list(_frames(trace))):
        interrupt = None if frame.sp is None else _interrupt(dump, frame.sp)
        frames.append(replace(frame, interrupt=interrupt))
        if interrupt is not None:
            return None if frames[-1].in_user_mode else interrupt
        if len(frames) >= _MAX_FRAMES:
            dump.problems.append(Problem(f"{_MAX_FRAMES} frames", "stack", "it was left there"))
            return None
        last = frame.sp
    return None if last is None else _other_stack(dump, last)


def _frames(trace: drgn.StackTrace) -> Iterator[Frame]:
    """drgn's frames, those of inlined functions put together with the one they are in."""
    inlined: list[str] = []
    for frame in trace:
        if frame.is_inline:
            inlined.append(frame.name)
            continue
        try:
            sp = frame.sp
        except LookupError:
            sp = None
        try:
            pc = frame.pc
        except LookupError:
            return
        yield Frame(sp, pc, None, frame.registers(), _source(trace, frame, inlined), tuple(inlined))
        inlined = []


def _with_the_caller_of_a_leaf(dump: Dump, found: list[Frame]) -> list[Frame]:
    """Frames; behind an innermost function that has made none, what its link register leads to.

    Else that would be missing, because what is saved in its frame is of an earlier call, or none.
    """
    if not found or found[0].sp is None or not found[0].registers:
        return found
    leaf, *others = found
    link = found[0].registers.get("lr", 0)
    if link >> 60 != _KERNEL or (others and others[0].pc == link):
        return found
    if dump.symbols.at(link) is None or _interrupt(dump, found[0].sp) is not None:
        return found
    return [leaf, Frame(leaf.sp, link), *others] if _frameless(dump, leaf.pc) else found


def _frameless(dump: Dump, pc: int) -> bool:
    """Whether a function has made no frame on the way from its beginning to `pc`."""
    function = dump.symbols.at(pc)
    if function is None or not 0 <= pc - function.address <= _LONGEST:
        return False
    try:
        code = dump.kernel.space.read(function.address, pc - function.address)
    except PhypanError:
        return False
    words = (int.from_bytes(code[at : at + 4], dump.byte_order) for at in range(0, len(code), 4))
    return not any(word & mask == value for word in words for mask, value in _MAKE_A_FRAME)


def _source(trace: drgn.StackTrace, frame: drgn.StackFrame, inlined: list[str]) -> str | None:
    try:
        location = frame.source()
    except LookupError:
        return None
    return f"{location[0]}:{location[1]}"


def _interrupt(dump: Dump, sp: int) -> PtRegs | None:
    """The registers that an interrupt has put into the frame at `sp`; None if none did."""
    size = _MARKER_OFFSETS[-1] + _REGS_BEHIND + 8 * len(pt_regs.NAMES)
    try:
        data = dump.kernel.space.read(sp, size)
    except PhypanError:
        return None
    chain = int.from_bytes(data[:8], dump.byte_order)
    length = chain - sp if chain > sp else size  # of the frame; it goes on on another stack
    for offset in _MARKER_OFFSETS:
        if offset >= length:  # what is there belongs to the caller, whose frame has its own
            return None
        if int.from_bytes(data[offset : offset + 8], dump.byte_order) in _MARKERS:
            start = offset + _REGS_BEHIND
            words = data[start : start + 8 * len(pt_regs.NAMES)]
            return pt_regs.read(words, dump.byte_order)
    return None


def _other_stack(dump: Dump, sp: int) -> PtRegs | None:
    """Where a stack goes on that drgn has left: its back chain leads to lower addresses."""
    try:
        (below,) = _words(dump, sp, 1)
        if below >> 60 != _KERNEL or below % 16 or below >= sp:
            return None
        _, _, link = _words(dump, below, 3)
    except PhypanError:
        return None
    if not dump.symbols.at(link):
        return None
    return pt_regs.of(()).replace(nip=link, gpr1=below)


def _words(dump: Dump, address: int, count: int) -> tuple[int, ...]:
    data = dump.kernel.space.read(address, 8 * count)
    return tuple(
        int.from_bytes(data[at : at + 8], dump.byte_order) for at in range(0, len(data), 8)
    )


def _pt_regs(dump: Dump, regs: PtRegs) -> drgn.Object:
    """The registers as a value that drgn unwinds from."""
    from drgn import Object, sizeof

    of = dump.program.type("struct pt_regs")
    data = pt_regs.write(regs, dump.byte_order).ljust(sizeof(of), b"\0")
    return Object.from_bytes_(dump.program, of, data[: sizeof(of)])
