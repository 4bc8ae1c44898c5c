"""A program that changes an overlay and is killed before, or in the middle of, its n-th system call; for every n.

    python killed.py OVERLAY POINT

POINT is such as `3`, or `3/2` for a write of which only half is done. SIGKILL it is, so that nothing is cleaned up.
What it did is on stdout, a system call a line. Without a death it ends with status 0.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from mcpd.config import store
from mcpd.config.origins import Provenance
from mcpd.config.sources import Sources

CALLS = ("open", "write", "fsync", "close", "rename", "unlink")
"""What the store may do to the disk. One that is added and not counted here would not be tested: `test_store` looks."""


class Counted:
    """The module `os`, whose calls are counted."""

    def __init__(self, point: str) -> None:
        number, _, half = point.partition("/")
        self.left = int(number)
        self.half = bool(half)

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*args, **options):
            self.left -= 1
            if self.left == 0:
                if self.half and name == "write":
                    os.write(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(1, f"{name}\n".encode())
            return real(*args, **options)

        return call


def main() -> None:
    path, point = Path(sys.argv[1]), sys.argv[2]
    sources = Sources(None, built_in=("c.json", "{}"), overlay=path, environ={})
    now = Provenance(at="2026-11-28T10:00:00Z", by="alice", how="mcpctl")
    reading = sources.read(
        lambda overlay, defined: overlay.with_servers({"new": {"command": "x"}}, now, defined, replace=False)
    )
    store.os = Counted(point)
    assert sources.write(reading)


if __name__ == "__main__":
    main()
