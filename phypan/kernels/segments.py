"""Linux's virtual segments: effective addresses to virtual segment ids (VSIDs), and back.

A VSID is a proto-VSID, made of a context and a segment number, scrambled: multiplied by a constant
modulo 2^bits - 1, which has an inverse. What differs between kernels is data: `scheme`, an array of
64-bit words whose places are named below; phypan/spaces/vsid.py fills it in.

Sources: Linux arch/powerpc/include/asm/{mmu-hash64.h,book3s/64/mmu-hash.h}, get_kernel_vsid(),
get_vsid(), vsid_scramble().
"""

from __future__ import annotations

from phypan.kernels.words import Words, u64

# Places in `scheme`: words for segments of 256 MiB, then the same for 1 TiB.
SEGMENT_SHIFT = 0  # 28 or 40
BITS = 1  # of a VSID
MULTIPLIER = 2
INVERSE = 3  # of the multiplier, modulo 2^BITS - 1
ESID_BITS = 4  # bits of a proto-VSID that are the segment's number
SEGMENT_WORDS = 5
KERNEL = 10  # how kernel addresses are told from contexts, one of:
WHOLE = 0  # the proto-VSID is the whole number of the segment
WHOLE_AND_TOP = 1  # the same, and the top bit is set
NIBBLE = 2  # a context for each top nibble, 0xc and up
REGION = 3  # contexts for pieces of the linear map, then one for each region behind it
FIRST_CONTEXT = 11  # NIBBLE: the context of nibble 0xc; REGION: of the first linear context
LINEAR_CONTEXTS = 12  # REGION: contexts of the linear map
VIRTUAL_START = 13  # REGION: where the regions behind the linear map begin
LINEAR_SHIFT, REGION_SHIFT = 14, 15  # REGION: sizes of such a piece, and of a region
REGIONS = 16  # REGION: how many there are behind the linear map
SCHEME = 17

NO_VSID = 0xFFFFFFFFFFFFFFFF


def scramble(proto: int, multiplier: int, bits: int) -> int:
    """proto x multiplier modulo 2^bits - 1, as the kernel computes it: 64 bits at the most."""
    modulus = (u64(1) << bits) - u64(1)
    x = (proto * multiplier) & u64(0xFFFFFFFFFFFFFFFF)
    x = (x >> bits) + (x & modulus)
    return (x + ((x + u64(1)) >> bits)) & modulus


def times(a: int, b: int, bits: int) -> int:
    """a x b modulo 2^bits - 1, for factors of up to 40 bits."""
    modulus = (u64(1) << bits) - u64(1)
    half = u64(20)
    low = (a & u64(0xFFFFF)) * b % modulus
    high = (a >> half) * b % modulus
    return (low + (high << half) % modulus) % modulus


def kernel_proto(scheme: Words, row: int, address: int) -> int:
    """The proto-VSID of a kernel address; NO_VSID if the scheme has none for it."""
    shift = scheme[row + SEGMENT_SHIFT]
    kind = scheme[KERNEL]
    if kind == u64(WHOLE):
        return address >> shift
    if kind == u64(WHOLE_AND_TOP):
        return address >> shift | u64(1) << (scheme[row + BITS] - u64(1))
    esid = address >> shift & ((u64(1) << scheme[row + ESID_BITS]) - u64(1))
    if kind == u64(NIBBLE):
        context = scheme[FIRST_CONTEXT] + (address >> u64(60)) - u64(12)
    elif address < scheme[VIRTUAL_START]:
        linear = (address & u64(0x0FFFFFFFFFFFFFFF)) >> scheme[LINEAR_SHIFT]
        if linear >= scheme[LINEAR_CONTEXTS]:
            return u64(NO_VSID)
        context = scheme[FIRST_CONTEXT] + linear
    else:
        region = (address - scheme[VIRTUAL_START]) >> scheme[REGION_SHIFT]
        if region >= scheme[REGIONS]:
            return u64(NO_VSID)
        context = scheme[FIRST_CONTEXT] + scheme[LINEAR_CONTEXTS] + region
    return context << scheme[row + ESID_BITS] | esid


def vsid(scheme: Words, row: int, context: int, address: int) -> int:
    """The VSID of an effective address; NO_VSID if there is none.

    row      0 for segments of 256 MiB, SEGMENT_WORDS for 1 TiB
    context  mm->context.id, for addresses of user space
    """
    if address >> u64(60) >= u64(12):
        proto = kernel_proto(scheme, row, address)
    elif address >> (scheme[row + SEGMENT_SHIFT] + scheme[row + ESID_BITS]) != u64(0):
        return u64(NO_VSID)
    else:
        proto = context << scheme[row + ESID_BITS] | address >> scheme[row + SEGMENT_SHIFT]
    if proto == u64(NO_VSID):
        return proto
    return scramble(proto, scheme[row + MULTIPLIER], scheme[row + BITS])


def kernel_address(scheme: Words, row: int, proto: int) -> int:
    """The effective address that a kernel's proto-VSID begins at; 0 if it is not a kernel's."""
    shift, esid_bits, kind = scheme[row + SEGMENT_SHIFT], scheme[row + ESID_BITS], scheme[KERNEL]
    if kind == u64(WHOLE) or kind == u64(WHOLE_AND_TOP):
        top = kind == u64(WHOLE) or proto >> (scheme[row + BITS] - u64(1)) != u64(0)
        address = (proto << shift) & u64(0xFFFFFFFFFFFFFFFF)
        return address if top and address >> u64(60) >= u64(12) else u64(0)
    context = proto >> esid_bits
    if context < scheme[FIRST_CONTEXT]:
        return u64(0)
    number = context - scheme[FIRST_CONTEXT]
    offset = (proto & ((u64(1) << esid_bits) - u64(1))) << shift
    if kind == u64(NIBBLE):
        return (u64(12) + number) << u64(60) | offset if number < u64(4) else u64(0)
    # The segment's number has the low bits of the address, the start of the region the others.
    covered = (u64(1) << (shift + esid_bits)) - u64(1)
    if number < scheme[LINEAR_CONTEXTS]:
        start = u64(0xC000000000000000) + (number << scheme[LINEAR_SHIFT])
        return start & ~covered | offset
    number -= scheme[LINEAR_CONTEXTS]
    if number >= scheme[REGIONS]:
        return u64(0)
    return (scheme[VIRTUAL_START] + (number << scheme[REGION_SHIFT])) & ~covered | offset


def segment(scheme: Words, row: int, number: int) -> tuple[int, int]:
    """(context, effective address of the first byte) of a VSID; the context of a kernel's is 0."""
    proto = times(number, scheme[row + INVERSE], scheme[row + BITS])
    address = kernel_address(scheme, row, proto)
    if address != u64(0):
        return u64(0), address
    esid_bits = scheme[row + ESID_BITS]
    esid = proto & ((u64(1) << esid_bits) - u64(1))
    return proto >> esid_bits, esid << scheme[row + SEGMENT_SHIFT]
