"""What can go wrong on the way from a crash to a dump, to order."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from phypan.errors import Unsupported


class Fault(Enum):
    """One fault; the value is the name that a user gives."""

    INVALID_TYPE = "invalid-type"  # the sections' error flags of LoPAR, one each
    INVALID_SOURCE = "invalid-source"
    LENGTH_EXCEEDS_SOURCE = "length-exceeds-source"
    INVALID_DESTINATION = "invalid-destination"
    DESTINATION_TOO_SMALL = "destination-too-small"
    DUMP_ERROR = "dump-error"  # the status flag of the whole dump
    SHORT_COPY = "short-copy"  # half of low memory was copied, and is said to have been
    OVERLAP = "overlap"  # low memory was copied over the register save area
    CPU_LOST = "cpu-lost"  # the last CPU is not in the register save area
    NO_CPU_AREA = "no-cpu-area"  # nothing of any CPU was saved
    OVERWRITTEN = "overwritten"  # the boot loader wrote over the start of the preserved area
    NO_HEADER = "no-header"  # the kernel died before it wrote its crash info header
    NO_VMCOREINFO = "no-vmcoreinfo"
    REFUSED = "refused"  # the firmware refuses the registration: no dump results
    BUSY = "busy"  # the firmware is busy twice before it registers


def named(names: Iterable[str | Fault]) -> frozenset[Fault]:
    """The faults of these names; Unsupported if there is no such fault."""
    found = set()
    for name in names:
        try:
            found.add(Fault(name))
        except ValueError:
            known = ", ".join(fault.value for fault in Fault)
            raise Unsupported(f"no fault {name!r}", hint=f"there are: {known}") from None
    return frozenset(found)
