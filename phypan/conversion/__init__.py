"""Conversion: pages of a dump to a writer and a sink; checking and repairing what was written."""

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """phypan.pipeline, which is slow to import."""
    if name == "pipeline":
        return importlib.import_module("phypan.conversion.pipeline")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
