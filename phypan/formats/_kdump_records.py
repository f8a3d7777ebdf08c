"""The two headers of a compressed dump, as makedumpfile diskdump_mod.h declares them."""

from __future__ import annotations

from construct import Bytes as RawBytes
from construct import Const, Int32sb, Int32sl, Int32ub, Int32ul, Int64sb, Int64sl, Int64ub, Int64ul
from construct import Struct as Record

from phypan.formats._records import STRUCT_ORDER, ByteOrder

MAGIC = b"KDUMP   "


def _header(order: ByteOrder) -> Record:
    big = order == "big"
    s32, u32, s64 = (Int32sb, Int32ub, Int64sb) if big else (Int32sl, Int32ul, Int64sl)
    return Record(
        "signature" / Const(MAGIC),
        "header_version" / s32,
        "sysname" / RawBytes(65),  # struct new_utsname
        "nodename" / RawBytes(65),
        "release" / RawBytes(65),
        "version" / RawBytes(65),
        "machine" / RawBytes(65),  # ppc64 or ppc64le; QEMU writes Unknown
        "domainname" / RawBytes(65),
        "padding" / RawBytes(6),
        "tv_sec" / s64,  # when it crashed
        "tv_usec" / s64,
        "status" / u32,
        "block_size" / s32,  # the kernel's page size
        "sub_hdr_size" / s32,  # in blocks
        "bitmap_blocks" / u32,  # in blocks, of both bitmaps
        "max_mapnr" / u32,
        "total_ram_blocks" / u32,
        "device_blocks" / u32,
        "written_blocks" / u32,
        "current_cpu" / u32,
        "nr_cpus" / s32,
    )


def _sub_header(order: ByteOrder) -> Record:
    big = order == "big"
    s32, u64, s64 = (Int32sb, Int64ub, Int64sb) if big else (Int32sl, Int64ul, Int64sl)
    return Record(
        "phys_base" / u64,
        "dump_level" / s32,  # from header version 1 on
        "split" / s32,  # 2
        "start_pfn" / u64,
        "end_pfn" / u64,
        "offset_vmcoreinfo" / s64,  # 3
        "size_vmcoreinfo" / u64,
        "offset_note" / s64,  # 4
        "size_note" / u64,
        "offset_eraseinfo" / s64,  # 5
        "size_eraseinfo" / u64,
        "start_pfn_64" / u64,  # 6
        "end_pfn_64" / u64,
        "max_mapnr_64" / u64,
    )


HEADER = {order: _header(order) for order in STRUCT_ORDER}
SUB_HEADER = {order: _sub_header(order) for order in STRUCT_ORDER}
