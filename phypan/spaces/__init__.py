"""Address spaces: what effective addresses of the crashed system translate to, in every MMU mode.

space      a Space and its Translation
mapping    Spaces: those of a dump, by name
eras       what Linux's page tables looked like, kernel after kernel
clues, detect  which of them a dump has
linear, linux, radix, hash, vmemmap, vrma  kinds of spaces
vsid, hpt  Linux's virtual segments; which kind a hashed page table has
resident, batch  memory as kernels read it; many addresses at once
"""
