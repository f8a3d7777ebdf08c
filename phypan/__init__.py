"""phypan: hypervisor-assisted dumps of IBM POWER partitions, read, converted, analysed and made.

    with phypan.open("ram", regions=["boot2.dtb"]) as dump:
        dump.memory.read(0x20000, 4096)     # physical address; NotInDump where nothing was saved
        dump.cpus[0]["NIA"], dump.vmcoreinfo["OSRELEASE"], dump.problems
        phypan.convert(dump, "vmcore")

What this module exports is the public API; phypan.formats, the layouts of bytes, is part of it.
Names are imported when they are first used, so that the command line starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__: str

if TYPE_CHECKING:
    from phypan import formats as formats
    from phypan import identify as identify
    from phypan import linux as linux
    from phypan import pages as pages
    from phypan.api import analyses as analyses
    from phypan.api import guests as guests
    from phypan.api import list_plugins as list_plugins
    from phypan.api import mount as mount
    from phypan.api import open as open
    from phypan.api import render as render
    from phypan.api import run as run
    from phypan.api import simulate as simulate
    from phypan.api import writers as writers
    from phypan.assemble import from_ram as from_ram
    from phypan.cells import cell as cell
    from phypan.conversion import pipeline as pipeline
    from phypan.conversion.run import Converted as Converted
    from phypan.diagnosis import doctor as doctor
    from phypan.dump import Cpu as Cpu
    from phypan.dump import Dump as Dump
    from phypan.dump import cpus_from as cpus_from
    from phypan.errors import BadRecord as BadRecord
    from phypan.errors import GuestError as GuestError
    from phypan.errors import InputError as InputError
    from phypan.errors import NotInDump as NotInDump
    from phypan.errors import OutputError as OutputError
    from phypan.errors import PhypanError as PhypanError
    from phypan.errors import PluginError as PluginError
    from phypan.errors import Problem as Problem
    from phypan.errors import TranslationFault as TranslationFault
    from phypan.errors import Unsupported as Unsupported
    from phypan.errors import printable as printable
    from phypan.extents import EVERYWHERE as EVERYWHERE
    from phypan.extents import Extent as Extent
    from phypan.extents import Hole as Hole
    from phypan.extents import without_overlaps as without_overlaps
    from phypan.filtering.levels import present_pages as present_pages
    from phypan.filtering.owners import Owners as Owners
    from phypan.filtering.types import PageTypes as PageTypes
    from phypan.filtering.types import page_type as page_type
    from phypan.filtering.zones import Node as Node
    from phypan.filtering.zones import nodes as nodes
    from phypan.from_notes import CoreNotes as CoreNotes
    from phypan.from_notes import dump_from_notes as dump_from_notes
    from phypan.from_notes import read_core_notes as read_core_notes
    from phypan.hooks import Analysis as Analysis
    from phypan.hooks import Input as Input
    from phypan.hooks import Renderer as Renderer
    from phypan.hooks import Secret as Secret
    from phypan.hooks import Source as Source
    from phypan.hooks import Writer as Writer
    from phypan.hooks import Written as Written
    from phypan.hooks import hookimpl as hookimpl
    from phypan.live.dump import from_live as from_live
    from phypan.live.store import LiveStore as LiveStore
    from phypan.live.system import LiveSystem as LiveSystem
    from phypan.live.system import NoDump as NoDump
    from phypan.live.system import status as status
    from phypan.memory import Memory as Memory
    from phypan.outputs import convert as convert
    from phypan.outputs import estimate as estimate
    from phypan.outputs import estimate_levels as estimate_levels
    from phypan.outputs import join as join
    from phypan.outputs import redact as redact
    from phypan.outputs import repair as repair
    from phypan.outputs import statistics as statistics
    from phypan.outputs import verify as verify
    from phypan.pages.kdump_set import KdumpSet as KdumpSet
    from phypan.pages.state import PageMask as PageMask
    from phypan.pages.state import PageState as PageState
    from phypan.pages.store import PageStore as PageStore
    from phypan.regions import read_regions as read_regions
    from phypan.rescue.capture import capture as capture
    from phypan.rescue.plan import CapturePlan as CapturePlan
    from phypan.rescue.plan import plan_capture as plan_capture
    from phypan.rescue.saving import Saved as Saved
    from phypan.rescue.saving import plan_saving as plan_saving
    from phypan.rescue.saving import save as save
    from phypan.rescue.session import Captured as Captured
    from phypan.rescue.settings import Settings as Settings
    from phypan.rescue.settings import read_settings as read_settings
    from phypan.rescue.under_way import unfinished_capture as unfinished_capture
    from phypan.rows import Address as Address
    from phypan.rows import Bytes as Bytes
    from phypan.rows import Column as Column
    from phypan.rows import Hex as Hex
    from phypan.rows import Pages as Pages
    from phypan.rows import Rows as Rows
    from phypan.rows import Show as Show
    from phypan.sealing.keys import write_pair as write_pair
    from phypan.sealing.store import SealedStore as SealedStore
    from phypan.selection import select as select
    from phypan.sinks import Checkpoints as Checkpoints
    from phypan.sinks import Output as Output
    from phypan.sinks import Progress as Progress
    from phypan.spaces.batch import Batch as Batch
    from phypan.spaces.hashtable import HashTable as HashTable
    from phypan.spaces.mapping import Spaces as Spaces
    from phypan.spaces.scan import Scan as Scan
    from phypan.spaces.space import MappedRange as MappedRange
    from phypan.spaces.space import Part as Part
    from phypan.spaces.space import Protection as Protection
    from phypan.spaces.space import Space as Space
    from phypan.spaces.space import Step as Step
    from phypan.spaces.space import Translation as Translation
    from phypan.stores import BytesStore as BytesStore
    from phypan.stores import FileStore as FileStore
    from phypan.stores import Store as Store
    from phypan.to_notes import NoteRegisters as NoteRegisters
    from phypan.to_notes import core_notes as core_notes

_HOME = {
    "api": "analyses guests list_plugins mount open render run simulate writers",
    "assemble": "from_ram",
    "cells": "cell",
    "conversion": "pipeline",
    "conversion.run": "Converted",
    "diagnosis": "doctor",
    "dump": "Cpu Dump cpus_from",
    "errors": "BadRecord GuestError InputError NotInDump OutputError PhypanError PluginError "
    "Problem TranslationFault Unsupported printable",
    "extents": "EVERYWHERE Extent Hole without_overlaps",
    "filtering.levels": "present_pages",
    "filtering.owners": "Owners",
    "filtering.types": "PageTypes page_type",
    "filtering.zones": "Node nodes",
    "from_notes": "CoreNotes dump_from_notes read_core_notes",
    "hooks": "Analysis Input Renderer Secret Source Writer Written hookimpl",
    "live.dump": "from_live",
    "live.store": "LiveStore",
    "live.system": "LiveSystem NoDump status",
    "memory": "Memory",
    "outputs": "convert estimate estimate_levels join redact repair statistics verify",
    "pages.kdump_set": "KdumpSet",
    "pages.state": "PageMask PageState",
    "pages.store": "PageStore",
    "regions": "read_regions",
    "rescue.capture": "capture",
    "rescue.plan": "CapturePlan plan_capture",
    "rescue.saving": "Saved plan_saving save",
    "rescue.session": "Captured",
    "rescue.settings": "Settings read_settings",
    "rescue.under_way": "unfinished_capture",
    "rows": "Address Bytes Column Hex Pages Rows Show",
    "sealing.keys": "write_pair",
    "sealing.store": "SealedStore",
    "selection": "select",
    "sinks": "Checkpoints Output Progress",
    "spaces.batch": "Batch",
    "spaces.hashtable": "HashTable",
    "spaces.mapping": "Spaces",
    "spaces.scan": "Scan",
    "spaces.space": "MappedRange Part Protection Space Step Translation",
    "stores": "BytesStore FileStore Store",
    "to_notes": "NoteRegisters core_notes",
}
_PLACES = {name: module for module, names in _HOME.items() for name in names.split()}
_MODULES = ("formats", "identify", "linux", "pages")

__all__ = sorted([*_PLACES, *_MODULES])  # noqa: PLE0605 - the names above, each in one place


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(importlib.import_module(f"phypan.{_PLACES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"phypan.{name}")
    elif name == "__version__":
        from importlib.metadata import version

        value = version("phypan")
    else:
        raise AttributeError(f"module 'phypan' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
