"""A program that takes QEMU's command line and plays a part: the first word after the path.

good      boots, crashes with its memory preserved, boots again, copies /proc/vmcore
panic     boots and panics, nothing is preserved
forget    as good, but the second boot's device tree knows of no dump
no-copy   as good, but /proc/vmcore cannot be copied
hang      prints three lines and nothing more
chatter   prints for ever
die       ends with a message before it answers
mute      never answers at the monitor
refuse    does not migrate
stranger  is no QEMU
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.platform_model.qemu import streams

FIRST_PAGE, VMCORE = b"PHYPAN-FAKE-MEMORY", b"PHYPAN-FAKE-VMCORE"


class Fake:
    def __init__(self, part: str, words: list[str]) -> None:
        self.part = part
        line = "\n".join(words)

        def found(pattern: str) -> str:
            match = re.search(pattern, line)
            assert match, pattern
            return match[1]

        self.monitor = socket.socket(fileno=int(found(r"socket,id=monitor,fd=(\d+)")))
        self.console = Path(found(r"-serial\nfile:(.*)"))
        self.memory = found(r"mem-path=(\S+)")
        disk = re.search(r"file=(\S*vmcore.kernel)", line)
        self.disk = Path(disk[1]) if disk else None
        self.boots = 0
        self.off = False  # whether the guest has powered itself off

    def say(self, *lines: str) -> None:
        with self.console.open("a") as file:
            file.write("".join(f"{line}\r\n" for line in lines))

    def send(self, message: object) -> None:
        self.monitor.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str) -> None:
        self.send({"event": name, "timestamp": {"seconds": 1, "microseconds": 0}})

    def write(self, at: int, data: bytes) -> None:
        with open(self.memory, "r+b") as file:
            os.pwrite(file.fileno(), data, at)

    def boot(self) -> None:
        self.boots += 1
        if self.boots == 2 and self.part == "own-init":
            self.say("fadump: Firmware-assisted dump is active.", "somebody else's init")
            return
        if self.boots == 2:
            self.say("PHYPAN: second boot, /proc/vmcore has 4096 bytes")
            return
        self.say("Linux version 6.12.0-fake", "[    0.1] \033[31mred", "PHYPAN: about to crash")
        self.write(0, FIRST_PAGE)
        self.write((256 << 20) - 65536, FIRST_PAGE)
        if self.part == "panic":
            self.event("GUEST_PANICKED")
        elif self.part not in ("hang", "chatter"):
            self.event("SHUTDOWN")

    def resume(self) -> None:
        """Run on after memory of the second boot was taken."""
        if self.boots != 2 or self.part == "forget":
            return
        if self.part == "no-copy" or self.disk is None:
            self.say("PHYPAN: /proc/vmcore was not copied: no disk")
            return
        with self.disk.open("r+b") as file:
            file.write(VMCORE)
        self.say("PHYPAN: /proc/vmcore copied, 4096 bytes")
        self.off = True

    def execute(self, name: str, arguments: dict[str, object]) -> object:
        if name == "migrate":
            if self.part == "refuse":
                return {}
            stream = "hash" if self.boots == 1 or self.part == "forget" else "second-boot"
            uri = str(arguments["uri"])
            subprocess.run(
                ["sh", "-c", uri.removeprefix("exec:")], input=streams.data(stream), check=True
            )
        elif name == "query-migrate":
            failed = {"status": "failed", "error-desc": "a device cannot be migrated"}
            return failed if self.part == "refuse" else {"status": "completed"}
        elif name == "system_reset":
            self.boot()
            self.boots = -self.boots  # the first cont is of the boot itself
        elif name == "cont":
            if self.boots < 0:
                self.boots = -self.boots
            else:
                self.resume()
        elif name == "query-dump-guest-memory-capability":
            return {"formats": ["elf", "kdump-zlib", "kdump-lzo", "win-dmp"]}
        elif name == "dump-guest-memory":
            if arguments["format"] == "kdump-lzo":
                return None
            Path(str(arguments["protocol"]).removeprefix("file:")).write_bytes(
                f"as {arguments['format']}".encode() + bytes(200000)
            )
        return {}

    def messages(self) -> Iterator[dict[str, Any]]:
        """JSON objects, one behind the other; nothing separates them."""
        text, decoder = "", json.JSONDecoder()
        while received := self.monitor.recv(65536):
            text += received.decode()
            while text := text.lstrip():
                try:
                    message, end = decoder.raw_decode(text)
                except ValueError:
                    break
                text = text[end:]
                yield message

    def serve(self) -> None:
        version = {"qemu": {"major": 11, "minor": 1, "micro": 0}, "package": "fake"}
        self.send({"QMP": {"version": version, "capabilities": []}})
        started = False
        for message in self.messages():
            name = message["execute"]
            result = self.execute(name, message.get("arguments", {}))
            reply: dict[str, object] = {"id": message["id"]} if "id" in message else {}
            if result is None:
                reply["error"] = {"class": "GenericError", "desc": "not built in"}
            else:
                reply["return"] = result
            self.send(reply)
            if name == "quit" or self.off:
                return
            if not started:
                started = True
                self.boot()
            while self.part == "chatter":
                self.say("again and again")
                time.sleep(0.02)


def main() -> None:
    part, words = sys.argv[1], sys.argv[2:]
    if words == ["--version"]:
        print("a stranger" if part == "stranger" else "QEMU emulator version 11.1.3 (fake)")
        return
    if part == "die":
        print("qemu-system-ppc64: the fake cannot start")
        sys.exit(1)
    pid = os.environ.get("PHYPAN_FAKE_PID")
    if pid:
        Path(pid).write_text(str(os.getpid()))
    if part == "mute":
        time.sleep(600)
    Fake(part, words).serve()
    time.sleep(600 if part == "hang" else 0)


if __name__ == "__main__":
    main()
