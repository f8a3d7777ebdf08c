"""What each letter of a tainted kernel means (kernel/panic.c, Documentation/admin-guide)."""

from __future__ import annotations

from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    "P": "proprietary module",
    "F": "module forced to load",
    "S": "out of specification",
    "R": "module forced to unload",
    "M": "machine check",
    "B": "bad page",
    "U": "by user space",
    "D": "died before (oops or BUG)",
    "A": "ACPI table replaced",
    "W": "warned before",
    "C": "staging driver",
    "I": "firmware workaround",
    "O": "module from out of tree",
    "E": "unsigned module",
    "L": "soft lockup before",
    "K": "live patched",
    "X": "by the distribution",
    "T": "structures randomised",
    "N": "test module",
}
