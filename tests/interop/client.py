"""How a check speaks to a client program: requests by MCP's own names, and a record of all that came unasked.

A client program (clients/sdk.py, clients/sdk.mjs) is a process that reads one JSON object a line and does it
over MCP with its SDK, whatever transport it was started for. Lines to it: {id, method, params}, and
{cancel: id}; the end of its input ends the session. Lines from it: {ready: <result of initialize>} once,
{id, result} or {id, error} or {id, cancelled: true}, {progress: {id, progress, total, message}},
{notification: {method, params}} and {question: {method, params}} for what the server asked and the program
answered.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any, Self

import trio

from tests.fixtures.peer import JSON, ROOT, stop_process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

CONNECT_LIMIT = 60.0
"""Seconds from the start of the program to the result of initialize; over stdio mcpd starts meanwhile."""
WAIT_LIMIT = 20.0
"""Seconds that an answer, or news that must come, may take."""
LEAVE_LIMIT = 15.0
STDERR_TAIL = 600


class ClientFailure(Exception):
    """The client reports an error, or gave no answer."""


class Client:
    """What checks use. A subclass says how a request is made."""

    def __init__(self) -> None:
        self.server: JSON = {}
        """The result of initialize, where the client shows it."""
        self.notifications: list[JSON] = []
        self.questions: list[JSON] = []
        self.remarks: list[str] = []
        """What is no failure, but worth a line."""

    async def request(self, method: str, params: JSON | None = None) -> JSON:
        """The result. Raises: ClientFailure."""
        raise NotImplementedError

    async def call(self, tool: str, **arguments: Any) -> JSON:
        """Calls a tool; its result, which may be one with `isError`."""
        return await self.request("tools/call", {"name": tool, "arguments": arguments})

    async def text(self, tool: str, **arguments: Any) -> str:
        """Calls a tool that must succeed; the texts of its result. Raises: ClientFailure."""
        result = await self.call(tool, **arguments)
        texts = "\n".join(block.get("text", "") for block in result["content"])
        if result.get("isError"):
            raise ClientFailure(f"{tool}: {texts}")
        return texts


class ProgramClient(Client):
    """A client program, for the length of the block."""

    def __init__(self, argv: Sequence[str], target: JSON) -> None:
        super().__init__()
        self._argv = [*argv, json.dumps(target)]
        self._ids = itertools.count(1)
        self._answers: dict[int, JSON] = {}
        self._progress: dict[int, list[JSON]] = {}
        self._news = trio.Event()
        self._ready: JSON | None = None
        self._ended = False
        self._stderr = bytearray()
        self._process: trio.Process
        self._nursery: trio.Nursery
        self._manager: Any = None

    async def __aenter__(self) -> Self:
        self._process = await trio.lowlevel.open_process(
            self._argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            # A proxy of this machine is not for loopback.
            env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
        )
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        self._nursery.start_soon(self._read)
        self._nursery.start_soon(self._read_stderr)
        try:
            ready = await self.wait(lambda: self._ready, "no result of initialize", CONNECT_LIMIT)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        self.server = ready
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            assert self._process.stdin is not None
            await self._process.stdin.aclose()
            await stop_process(self._process)
        self._nursery.cancel_scope.cancel()
        await self._manager.__aexit__(None, None, None)

    async def leave(self) -> None:
        """Ends the session as the SDK does. Raises: ClientFailure when the program does not end well."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        with trio.move_on_after(LEAVE_LIMIT):
            status = await self._process.wait()
            if status:
                raise ClientFailure(f"the client ended with status {status}{self._last_words()}")
            return
        raise ClientFailure(f"the client did not end in {LEAVE_LIMIT:g} s{self._last_words()}")

    async def request(self, method: str, params: JSON | None = None) -> JSON:
        answer = await self._answer_to(await self._send(method, params))
        if "result" not in answer:
            raise ClientFailure(f"{method}: {answer.get('error', 'cancelled')}")
        return answer["result"]

    async def call_with_progress(self, tool: str, **arguments: Any) -> tuple[JSON, list[JSON]]:
        """A tool's result, and every progress report that came before it."""
        id = await self._send("tools/call", {"name": tool, "arguments": arguments})
        answer = await self._answer_to(id)
        if "result" not in answer:
            raise ClientFailure(f"{tool}: {answer.get('error', 'cancelled')}")
        return answer["result"], self._progress.get(id, [])

    async def cancel_call(self, tool: str, **arguments: Any) -> Callable[[], int]:
        """Cancels a call once it has reported progress. Returns what counts its reports so far."""
        id = await self._send("tools/call", {"name": tool, "arguments": arguments})
        await self.wait(lambda: self._progress.get(id), f"{tool} reports no progress")
        await self._write({"cancel": id})
        answer = await self._answer_to(id)
        if "cancelled" not in answer:
            raise ClientFailure(f"{tool} was to be cancelled, and gave {answer}")
        return lambda: len(self._progress[id])

    async def wait_notification(self, method: str, **params: Any) -> JSON:
        """The first notification with this method and these params; it is taken out of the record."""

        def find() -> JSON | None:
            for at, notification in enumerate(self.notifications):
                found = notification.get("params") or {}
                if notification["method"] == method and params.items() <= found.items():
                    return self.notifications.pop(at)
            return None

        return await self.wait(find, f"no {method} {params}")

    async def wait(self, look: Callable[[], Any], complaint: str, limit: float = WAIT_LIMIT) -> Any:
        """Waits until `look` gives something; looks at every line. Raises: ClientFailure."""
        with trio.move_on_after(limit):
            while not (found := look()):
                if self._ended:
                    raise ClientFailure(f"the client ended: {complaint}{self._last_words()}")
                await self._news.wait()
            return found
        raise ClientFailure(f"{complaint} in {limit:g} s{self._last_words()}")

    async def _send(self, method: str, params: JSON | None) -> int:
        id = next(self._ids)
        await self._write({"id": id, "method": method, "params": params or {}})
        return id

    async def _answer_to(self, id: int) -> JSON:
        return await self.wait(lambda: self._answers.pop(id, None), "no answer")

    async def _write(self, line: JSON) -> None:
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(json.dumps(line).encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ClientFailure(f"the client ended{self._last_words()}") from None

    async def _read(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        async for data in self._process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
            self._tell()
        self._ended = True
        self._tell()

    def _take(self, line: JSON) -> None:
        match line:
            case {"ready": hello}:
                self._ready = hello
            case {"id": id}:
                self._answers[id] = line
            case {"progress": report}:
                self._progress.setdefault(report["id"], []).append(report)
            case {"notification": notification}:
                self.notifications.append(notification)
            case {"question": question}:
                self.questions.append(question)

    def _tell(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        async for data in self._process.stderr:
            self._stderr = (self._stderr + data)[-STDERR_TAIL:]

    def _last_words(self) -> str:
        text = " ".join(self._stderr.decode(errors="replace").split())
        return f"; its standard error ends: {text}" if text else ""
