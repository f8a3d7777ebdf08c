"""Kernels: work on many addresses or many page table entries at once; arrays in, arrays filled.

Each kernel is written once as scalar code, for one address or one entry at a time:

    words      64-bit words out of extents of memory
    tables     trees of page tables: Linux's own of every era, radix
    leaves     all that such a tree maps
    hashed     the hashed page table: one lookup, a whole table
    segments   Linux's virtual segments: effective addresses to VSIDs and back
    struct_page  what each page is used for

That source runs in two ways: numba compiles it, and Python runs it as it is, over array.array and
memoryview, on hosts without numpy (POWER has no wheels). A third way is its vectorised twin over
numpy in kernels/twins, which serves hosts without numba and is the oracle of the tests. All three
fill the same arrays with the same values; `modes` chooses one. The kernels never read outside of
the extents that they are given.
"""
