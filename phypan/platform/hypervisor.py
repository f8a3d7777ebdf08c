"""The hypervisor: RTAS calls, and what it does when the operating system dies.

LoPAR 2.9, "ibm,configure-kernel-dump RTAS Call", "ibm,os-term", "RTAS Node"; where the text and the
table of return codes disagree, the table is followed, as Linux and QEMU do. With layout "qemu" it
preserves as QEMU 10.2 and later do (hw/ppc/spapr_fadump.c).
"""

from __future__ import annotations

import struct
from dataclasses import replace

from phypan.errors import BadRecord, PhypanError
from phypan.formats import hptesave, kernel_dump, regsave
from phypan.formats.kernel_dump import ErrorFlag, KernelDump, Section, SectionType, Status
from phypan.platform.faults import Fault
from phypan.platform.lpar import Lpar, Processor

CONFIGURE_KERNEL_DUMP = 0x202D  # RTAS tokens, as QEMU numbers them
OS_TERM = 0x201F
REGISTER, UNREGISTER, INVALIDATE = 1, 2, 3
SUCCESS, HARDWARE_ERROR, BUSY, PARAMETER_ERROR = 0, -1, -2, -3
ALREADY_REGISTERED, DUMP_ACTIVE, EXTENDED_DELAY_1MS = -9, -10, 9900
HPTE_AREA = 0x1000  # bytes; PowerVM's, as the kernel's documents show it
_QEMU_REGISTERS = """
    ACOP AMR BESCR CFAR CIABR CR CTR CTRL DABR DABRX DAR DAWR0 DAWR1 DAWRX0 DAWRX1 DPDES DSCR DSISR
    EBBHR EBBRR FPSCR FSCR GPR IAMR IC LR MSR NIA PIR PSPB PVR RPR SPURR SRR0 SRR1 TAR TEXASR TFHAR
    TFIAR TIR UAMOR VRSAVE VSCR VTB WORT XER"""


class Hypervisor:
    """One partition's hypervisor.

    registered  what the operating system asked to be preserved, None before and after
    active      the dump that waits to be taken, None when there is none
    """

    def __init__(
        self,
        lpar: Lpar,
        *,
        layout: regsave.Layout = "lopar",
        faults: frozenset[Fault] = frozenset(),
    ) -> None:
        self.lpar = lpar
        self.layout = layout
        self.registered: KernelDump | None = None
        self.active: KernelDump | None = None
        self._faults = faults
        self._busy = 2 if Fault.BUSY in faults else 0

    # -- what the device tree says of it ------------------------------------------------------

    @property
    def cpu_area_size(self) -> int:
        """Bytes that a register save area of all processors may need."""
        if self.layout == "qemu":
            return len(self._register_save_area())
        entries = (len(regsave.REGISTERS) + 2) * len(self.lpar.processors)
        return 0x20 + -(-entries * regsave.ENTRY.size // 0x10000) * 0x10000

    @property
    def hpte_area_size(self) -> int:
        """Bytes of an HPTE save area; QEMU saves none."""
        return 0 if self.layout == "qemu" else HPTE_AREA

    def kernel_dump_property(self) -> bytes | None:
        """ibm,kernel-dump: there while a dump waits."""
        return None if self.active is None else kernel_dump.write(self.active)

    # -- RTAS -----------------------------------------------------------------------------------

    def rtas(self, arguments: int) -> int:
        """Carry out the call whose argument buffer is at physical `arguments`; its status.

        The buffer is 32-bit big-endian cells: token, number of inputs, number of outputs, inputs,
        outputs, of which the first is the status (LoPAR, "RTAS Argument Call Buffer").
        """
        memory = self.lpar.memory
        token, inputs, outputs = struct.unpack(">3I", memory.read(arguments, 12))
        if inputs > 16 or not 1 <= outputs <= 16:
            return PARAMETER_ERROR
        cells = struct.unpack(f">{inputs}I", memory.read(arguments + 12, 4 * inputs))
        if token == CONFIGURE_KERNEL_DUMP and inputs == 3:
            status = self._configure_kernel_dump(*cells)
        elif token == OS_TERM and inputs == 1:
            status = self._os_term(cells[0])
        else:
            status = PARAMETER_ERROR
        memory.write(arguments + 12 + 4 * inputs, struct.pack(">i", status))
        return status

    def _configure_kernel_dump(self, command: int, address: int, size: int) -> int:
        if command == REGISTER:
            return self._register(address, size)
        if command == UNREGISTER:
            if self.active is not None:
                return DUMP_ACTIVE
            self.registered = None
            return SUCCESS
        if command == INVALIDATE:
            if self.active is None:
                return PARAMETER_ERROR
            self.active = None
            return SUCCESS
        return PARAMETER_ERROR

    def _register(self, address: int, size: int) -> int:
        refusal = self._refusal()
        if refusal:
            return refusal
        if not 0 < address <= self.lpar.rma_size - size:
            return PARAMETER_ERROR
        try:
            structure = kernel_dump.read(self.lpar.memory.read(address, size))
        except BadRecord:
            return PARAMETER_ERROR
        sections = len(structure.sections)
        exact = kernel_dump.HEADER.sizeof() + sections * kernel_dump.SECTION.sizeof()
        if structure.problems or size != exact or sections > kernel_dump.MAX_SECTIONS:
            return PARAMETER_ERROR
        self.registered = structure  # a copy: what the guest writes there later does not count
        return SUCCESS

    def _refusal(self) -> int:
        """Why a registration is refused whatever it asks for; 0 if it is not."""
        if self._busy:
            self._busy -= 1
            return EXTENDED_DELAY_1MS if self._busy else BUSY
        if Fault.REFUSED in self._faults:
            return HARDWARE_ERROR
        if self.active is not None:
            return DUMP_ACTIVE
        return ALREADY_REGISTERED if self.registered is not None else 0

    def _os_term(self, message: int) -> int:
        """Preserve what is registered; the caller reboots the partition."""
        text = self.lpar.memory.read(message, min(2048, self.lpar.memory.size - message))
        self.lpar.say(f"ibm,os-term: {text.split(bytes(1))[0].decode('ascii', 'replace')}")
        if self.registered is None:
            return HARDWARE_ERROR
        self.preserve()
        return SUCCESS

    # -- the crash ------------------------------------------------------------------------------

    def preserve(self) -> None:
        """Carry out every registered section; the result becomes the active dump."""
        assert self.registered is not None
        done = tuple(self._preserve(section) for section in self.registered.sections)
        status = Status.PERFORMED | Status.TRIGGERED
        if Fault.DUMP_ERROR in self._faults or any(section.error_flags for section in done):
            status |= Status.ERROR
        self.active = replace(self.registered, sections=done, status=int(status))
        self.registered = None
        if Fault.OVERLAP in self._faults:
            self._overlap(done)

    def _preserve(self, section: Section) -> Section:
        if not section.request_flags & kernel_dump.COPY_TO_MEMORY:
            return section
        ordered = self._ordered_error(section)
        error = ordered or self._error(section)
        if error:
            return replace(section, error_flags=int(error), dumped=0)
        area = self._area(section)
        if area is None:
            return self._copy(section)
        size = min(len(area), section.length)
        self.lpar.memory.write(section.destination, area[:size])
        if len(area) > section.length:
            flag = int(ErrorFlag.DESTINATION_TOO_SMALL)
            return replace(section, dumped=size, error_flags=flag)
        # The whole area counts as dumped, its unused end too.
        return replace(section, dumped=section.length)

    def _ordered_error(self, section: Section) -> ErrorFlag | None:
        """The error flag that was ordered for this type of section."""
        ordered = {
            Fault.INVALID_TYPE: (SectionType.HPTE, ErrorFlag.INVALID_TYPE),
            Fault.INVALID_SOURCE: (SectionType.REAL_MODE_REGION, ErrorFlag.INVALID_SOURCE),
            Fault.LENGTH_EXCEEDS_SOURCE: (
                SectionType.REAL_MODE_REGION,
                ErrorFlag.LENGTH_EXCEEDS_SOURCE,
            ),
            Fault.INVALID_DESTINATION: (SectionType.CPU_STATE, ErrorFlag.INVALID_DESTINATION),
            Fault.DESTINATION_TOO_SMALL: (SectionType.CPU_STATE, ErrorFlag.DESTINATION_TOO_SMALL),
        }
        for fault, (kind, flag) in ordered.items():
            if fault in self._faults and section.type == kind:
                return flag
        return None

    def _error(self, section: Section) -> ErrorFlag | None:
        """What is wrong with a section, as LoPAR's error flags."""
        memory = self.lpar.memory.size
        platform = section.type in (SectionType.CPU_STATE, SectionType.HPTE)
        if not platform and section.type not in (
            SectionType.REAL_MODE_REGION,
            *range(0x100, 1 << 16),
        ):
            return ErrorFlag.INVALID_TYPE
        if not platform and section.source >= memory:
            return ErrorFlag.INVALID_SOURCE
        if not platform and section.source + section.length > memory:
            return ErrorFlag.LENGTH_EXCEEDS_SOURCE
        if section.destination + section.length > memory:
            return ErrorFlag.INVALID_DESTINATION
        return None

    def _area(self, section: Section) -> bytes | None:
        if section.type == SectionType.CPU_STATE:
            return self._register_save_area()
        if section.type == SectionType.HPTE and section.length:
            entries = self.lpar.hpt.vrma_entries() if self.lpar.hpt else ()
            return hptesave.write(entries)
        return b"" if section.type == SectionType.HPTE else None

    def _copy(self, section: Section) -> Section:
        size = section.length
        if Fault.SHORT_COPY in self._faults and section.type == SectionType.REAL_MODE_REGION:
            size //= 2
        self.lpar.memory.copy(section.source, section.destination, size)
        return replace(section, dumped=size)

    def _overlap(self, sections: tuple[Section, ...]) -> None:
        """Low memory comes to lie over the register save area: both were given one place."""
        cpu = next((s for s in sections if s.type == SectionType.CPU_STATE), None)
        if cpu is not None:
            self.lpar.memory.write(cpu.destination, self.lpar.memory.read(0, cpu.length))

    def _register_save_area(self) -> bytes:
        if Fault.NO_CPU_AREA in self._faults:
            return bytes(0x40)
        saved = [processor for processor in self.lpar.processors if processor.online]
        if Fault.CPU_LOST in self._faults:
            saved = saved[:-1]
        if self.layout == "qemu":
            states = [_as_qemu(processor) for processor in saved]
            return regsave.write(states, layout="qemu", tail=b"\xa5" * 12)
        return regsave.write((processor.state() for processor in saved), layout="lopar")

    def reset(self) -> None:
        """Start the partition anew without clearing its memory."""
        if self.active is None:
            raise PhypanError(
                "the partition was reset and nothing was preserved",
                where="platform model",
                hint="no dump was registered: see the console log",
            )


def _as_qemu(processor: Processor) -> regsave.CpuState:
    """The registers that QEMU saves, in its order."""
    names: list[str] = []
    for name in _QEMU_REGISTERS.split():
        names += [f"GPR{n:02}" for n in range(32)] if name == "GPR" else [name]
    kept = {name: processor.registers.get(name, 0) for name in names}
    return regsave.CpuState(processor.number, kept)
