"""The model's second boot, mounted by a process of its own as a user mounts it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PHYPAN = (sys.executable, "-m", "phypan")


def unusable() -> str | None:
    """Why nothing can be mounted here."""
    if importlib.util.find_spec("mfusepy") is None:
        return "mfusepy is not installed"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or shutil.which("fusermount3") is None:
        return "FUSE is not there, or not allowed"
    return None


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """`place`, where the files of a second boot are; the test is skipped where FUSE is not."""
    why = unusable()
    if why is not None:
        pytest.skip(why)
    place.mkdir()
    words = [*PHYPAN, "simulate", *options, "--mount", str(place)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            deadline = time.monotonic() + 60
            while not (place / "proc").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"nothing was mounted: {process.stdout.read().decode()}")
                time.sleep(0.05)
            yield place
        finally:
            subprocess.run(["fusermount3", "-u", place], check=False, capture_output=True)
            process.wait(timeout=60)


def state(place: Path) -> dict[str, Any]:
    """What the model knows and a kernel would not show."""
    told: dict[str, Any] = json.loads((place / "model/state.json").read_text())
    return told
