"""A real Linux as the platform model's guest: booted under QEMU, crashed, and all of it kept.

A dump directory of simulate() holds, each file readable by its owner only:

    ram            the partition's memory in its second boot, from physical address 0
    boot2.dtb      flattened device tree of the second boot
    hpt            hashed page table at the crash: 16-byte entries, big-endian, in table order
    registers.json every CPU's registers and SLB at the crash, as QEMU knew them
    vmcore.kernel  /proc/vmcore as the second kernel presented it
    console.log    what both boots printed
    meta.json      what this is: kernel, machine, crash, who preserved memory, times

With mode "plain" there is neither ram nor boot2.dtb nor vmcore.kernel, but what QEMU's
dump-guest-memory writes: vmcore (ELF), vmcore.zlib, ... (makedumpfile's formats).
"""

from __future__ import annotations

from phypan.platform.qemu.run import simulate as simulate

__all__ = ["simulate"]
