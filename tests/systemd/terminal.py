"""A shell in a box, at a terminal: what is typed there, what is shown, and how long it took, all of it recorded.

The recording is an asciicast (version 2), which `asciinema play` shows, and a text beside it for people who only read.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import termios
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.systemd.box import Box

WIDTH, HEIGHT = 160, 50
COMMAND_LIMIT = 120.0
"""Seconds of one command."""
PROMPT = r"\[\e]7;$?\a\]# "
"""Of the shell: between the marks, which a terminal shows nothing of, stands the status of the last command."""
PROMPTED = re.compile(r"\x1b\]7;(\d+)\x07# $")
MARKS = re.compile(r"\x1b(\][^\x07]*\x07|\[[0-9;?]*[A-Za-z])|\r")


class Recording:
    """What a terminal showed, with the moments. Several sittings can be in one."""

    def __init__(self) -> None:
        self._began = trio.current_time()
        self._events: list[tuple[float, str]] = []

    def add(self, text: str) -> None:
        """Something was shown."""
        self._events.append((round(trio.current_time() - self._began, 3), text))

    def write(self, path: Path) -> None:
        """As `path` with the endings .cast and .txt."""
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {"version": 2, "width": WIDTH, "height": HEIGHT, "title": "a first day with mcpd"}
        lines = [json.dumps(head), *(json.dumps([at, "o", text]) for at, text in self._events)]
        path.with_suffix(".cast").write_text("\n".join(lines) + "\n")
        path.with_suffix(".txt").write_text(MARKS.sub("", "".join(text for _, text in self._events)))


class Terminal:
    """A shell that waits for commands."""

    def __init__(self, fd: int, recording: Recording) -> None:
        self._fd = fd
        self._recording = recording

    async def prompted(self) -> tuple[int, str]:
        """Wait for the prompt; the status of what ran before, and what it showed."""
        shown = ""
        with trio.fail_after(COMMAND_LIMIT):
            while (found := PROMPTED.search(shown)) is None:
                await trio.lowlevel.wait_readable(self._fd)
                text = os.read(self._fd, 65536).decode(errors="replace")
                self._recording.add(text)
                shown += text
        return int(found[1]), MARKS.sub("", shown[: found.start()])

    async def type(self, command: str) -> tuple[int, str]:
        """Type a command; its status, and what it showed. Raises: trio.TooSlowError, saying what it showed."""
        os.write(self._fd, command.encode() + b"\n")
        status, shown = await self.prompted()
        return status, shown.partition("\n")[2]


@asynccontextmanager
async def sitting(box: Box, recording: Recording) -> AsyncIterator[Terminal]:
    """A root shell of the box, at its prompt."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    os.set_blocking(main, False)
    shell = ("setsid", "--ctty", "env", "TERM=xterm", f"PS1={PROMPT}", "bash", "--norc", "--noprofile", "-i")
    process = await trio.lowlevel.open_process(box.argv(*shell), stdin=other, stdout=other, stderr=other)
    os.close(other)
    try:
        terminal = Terminal(main, recording)
        await terminal.prompted()
        yield terminal
    finally:
        os.close(main)
        with trio.CancelScope(shield=True), trio.move_on_after(10):
            await process.wait()
        with suppress(ProcessLookupError):
            process.kill()
