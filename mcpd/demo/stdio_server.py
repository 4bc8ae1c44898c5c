"""A legacy MCP server on standard input and output: one JSON message a line, a thread for each running call.

    main thread    reads lines, answers what is quick (handshake, lists, prompts, resources), starts and
    cancels call threads   run one tool each; they write under a lock and wait in `Call`, where cancelling
    reaches them

It speaks the four handshake versions, and batches where 2025-03-26 has them. A program makes a `Server`, adds
tools, prompts and resources, and calls `run`, which returns when standard input ends.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, TypeGuard

from mcpd.demo.call import JSON, LEVELS, Call, Cancelled, RpcError, ToolError
from mcpd.demo.directory import INVALID_PARAMS, Directory
from mcpd.demo.offer import (
    VERSIONS,
    Documents,
    Prompt,
    Tool,
    argument_entries,
    at_least,
    check_arguments,
    object_or_empty,
    result,
    schema,
    shown,
    text_block,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.demo.directory import Completer

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INTERNAL_ERROR = -32700, -32600, -32601, -32603

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one message. Longer lines are refused whole, so that a runaway peer cannot fill the memory."""
MAX_CALLS = 64
"""Calls at a time; each has a thread. More are refused, which a client can repeat."""
DRAIN_SECONDS = 0.2
"""What running calls get after the end of input, so that `printf … | server` shows its answers."""


class Batch:
    """Collects the answers to one array of messages (2025-03-26) and sends them as one array."""

    def __init__(self, expected: int, send: Callable[[object], None]) -> None:
        self._expected = expected
        self._send = send
        self._replies: list[JSON] = []
        self._lock = threading.Lock()

    def add(self, reply: JSON | None) -> None:
        """One answer; None when a cancelled call has none."""
        with self._lock:
            self._expected -= 1
            if reply is not None:
                self._replies.append(reply)
            if self._expected == 0 and self._replies:
                self._send(self._replies)


class Server:
    """One server process with one client."""

    def __init__(self, name: str, *, title: str, instructions: str, version: str = "1.0.0") -> None:
        self._info: JSON = {"name": name, "version": version, "title": title}
        self._instructions = instructions
        self._directory = Directory()
        self._version = ""
        self._client: JSON = {}
        self._level = "info"
        self._calls: dict[tuple[str, object], Call] = {}
        self._asks: dict[int, Call] = {}
        self._ask_ids = itertools.count(1)
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._output = -1

    # -- what a program adds

    def tool(
        self,
        name: str,
        description: str,
        *,
        title: str,
        inputs: JSON,
        required: list[str] | None = None,
        output: JSON | None = None,
        **hints: bool,
    ) -> Callable[[Callable[..., str | JSON | list[JSON]]], Callable[..., str | JSON | list[JSON]]]:
        """Adds a tool. `hints` are the tool annotations (readOnlyHint, idempotentHint, …)."""
        listing: JSON = {"name": name, "title": title, "description": description}
        listing["inputSchema"] = schema(inputs, list(inputs) if required is None else required)
        if output is not None:
            listing["outputSchema"] = schema(output, list(output))
        listing["annotations"] = {"title": title, **hints}

        def add(run: Callable[..., str | JSON | list[JSON]]) -> Callable[..., str | JSON | list[JSON]]:
            self._directory.tools[name] = Tool(listing, run)
            return run

        return add

    def prompt(
        self, name: str, description: str, *, title: str, arguments: dict[str, str]
    ) -> Callable[[Callable[..., str]], Callable[..., str]]:
        """Adds a prompt; `arguments` is name → description."""
        listing: JSON = {"name": name, "title": title, "description": description}
        listing["arguments"] = argument_entries(arguments)

        def add(run: Callable[..., str]) -> Callable[..., str]:
            self._directory.prompts[name] = Prompt(listing, run)
            return run

        return add

    def serve_documents(self, documents: Documents) -> None:
        """Offers resources."""
        self._directory.documents = documents

    def serve_completion(self, complete: Completer) -> None:
        """Offers completion of the arguments of prompts and of resource templates."""
        self._directory.complete = complete

    def announce_list(self) -> None:
        """Tells the client that the list of resources changed."""
        self._notify("notifications/resources/list_changed")

    def announce_document(self, uri: str) -> None:
        """Tells the client that a resource changed, if it subscribed to it."""
        if uri in self._directory.subscriptions:
            self._notify("notifications/resources/updated", {"uri": uri})

    # -- the loop

    def run(self) -> None:
        """Serves until standard input ends."""
        # Whatever prints must not land between the messages.
        self._output = os.dup(1)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        try:
            while line := sys.stdin.buffer.readline(MAX_LINE):
                if len(line) == MAX_LINE and not line.endswith(b"\n"):
                    while (rest := sys.stdin.buffer.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                        pass
                    self._send(error_reply(None, INVALID_REQUEST, f"a message may have {MAX_LINE} bytes"))
                elif line.strip():
                    self._receive(line)
        except KeyboardInterrupt:
            pass  # Ctrl-C at a terminal ends it like the end of input.
        self._drain()

    def _drain(self) -> None:
        with self._lock:
            threads = list(self._threads)
            asking = list(self._asks.values())
        for call in asking:  # No answer can come any more.
            call.interrupt()
        self._join(threads)
        with self._lock:
            calls = list(self._calls.values())
        for call in calls:
            call.interrupt()
        self._join(threads)

    @staticmethod
    def _join(threads: list[threading.Thread]) -> None:
        """Waits for all of them, DRAIN_SECONDS in all."""
        end = time.monotonic() + DRAIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _receive(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self._send(error_reply(None, PARSE_ERROR, "the line is not JSON"))
            return
        if not isinstance(message, list):
            self._take(message, self._send_if)
        elif not message or self._version != "2025-03-26":
            self._send(error_reply(None, INVALID_REQUEST, "arrays of messages belong to 2025-03-26 only"))
        else:
            batch = Batch(sum(map(is_request, message)), self._send)
            for each in message:
                self._take(each, batch.add if is_request(each) else self._send_if)

    def _take(self, message: object, reply: Callable[[JSON | None], None]) -> None:
        if not is_message(message):
            self._send(error_reply(None, INVALID_REQUEST, "not a JSON-RPC 2.0 message"))
        elif "method" not in message:
            self._answered(message)
        elif "id" not in message:
            self._notified(message["method"], object_or_empty(message.get("params")))
        else:
            self._requested(message["id"], message["method"], object_or_empty(message.get("params")), reply)

    def _requested(
        self, request_id: str | int, method: str, params: JSON, reply: Callable[[JSON | None], None]
    ) -> None:
        try:
            if method == "tools/call":
                self._start_call(request_id, params, reply)
            else:
                reply({"jsonrpc": "2.0", "id": request_id, "result": self._handle(method, params)})
        except RpcError as error:
            reply(error_reply(request_id, error.code, error.message, error.data))
        except Exception as error:
            reply(error_reply(request_id, INTERNAL_ERROR, f"{type(error).__name__}: {error}"))

    def _answered(self, message: JSON) -> None:
        with self._lock:
            call = self._asks.pop(message["id"], None) if isinstance(message.get("id"), int) else None
        if call is not None:
            call.answer(message)

    def _notified(self, method: str, params: JSON) -> None:
        request_id = params.get("requestId")
        if method == "notifications/cancelled" and is_id(request_id):
            with self._lock:
                call = self._calls.get(id_key(request_id))
            if call is not None:
                call.interrupt()

    def _handle(self, method: str, params: JSON) -> JSON:
        """Everything but calls of tools. Raises: RpcError."""
        if method == "initialize":
            return self._initialize(params)
        if method == "ping":
            return {}
        if method == "logging/setLevel":
            if params.get("level") not in LEVELS:
                raise RpcError(INVALID_PARAMS, f"level must be one of {', '.join(LEVELS)}")
            self._level = params["level"]
            return {}
        handler = self._directory.handler(method)
        if handler is None:
            raise RpcError(METHOD_NOT_FOUND, f"this server has no method {method}")
        self._need_version()
        return handler(params, self._version)

    def _need_version(self) -> None:
        if not self._version:
            raise RpcError(INVALID_REQUEST, "the first request must be initialize")

    def _initialize(self, params: JSON) -> JSON:
        wanted = params.get("protocolVersion")
        self._version = wanted if isinstance(wanted, str) and wanted in VERSIONS else VERSIONS[-1]
        self._client = object_or_empty(params.get("capabilities"))
        self._directory.subscriptions.clear()
        return {
            "protocolVersion": self._version,
            "capabilities": {"logging": {}, **self._directory.capabilities(self._version)},
            "serverInfo": shown(self._info, self._version),
            "instructions": self._instructions,
        }

    # -- calls

    def _start_call(self, request_id: str | int, params: JSON, reply: Callable[[JSON | None], None]) -> None:
        self._need_version()
        tool = self._directory.tools.get(str(params.get("name")))
        if tool is None:
            raise RpcError(INVALID_PARAMS, f"there is no tool {params.get('name')!r}")
        call = Call(
            object_or_empty(params.get("_meta")),
            self._client,
            with_message=at_least(self._version, "2025-03-26"),
            level=lambda: self._level,
            send=self._send,
            new_id=self._new_ask,
            forget=self._forget_ask,
        )
        arguments = object_or_empty(params.get("arguments"))
        key = id_key(request_id)
        thread = threading.Thread(
            target=self._run_call, args=(key, call, tool, arguments, reply), name=str(key), daemon=True
        )
        with self._lock:
            if len(self._calls) >= MAX_CALLS:
                raise RpcError(INTERNAL_ERROR, f"busy with {MAX_CALLS} calls; try again")
            if key in self._calls:
                raise RpcError(INVALID_REQUEST, "this id is in use")
            self._calls[key] = call
            self._threads.add(thread)
        thread.start()

    def _run_call(
        self,
        key: tuple[str, object],
        call: Call,
        tool: Tool,
        arguments: JSON,
        reply: Callable[[JSON | None], None],
    ) -> None:
        answer: JSON | None = None
        try:
            check_arguments(tool, arguments)
            answer = result(tool.run(call, **arguments), self._version)
        except ToolError as error:
            answer = {"content": [text_block(str(error))], "isError": True}
        except Cancelled:
            pass  # A cancelled request is not answered.
        except Exception as error:
            answer = {"content": [text_block(f"{type(error).__name__}: {error}")], "isError": True}
        with self._lock:
            del self._calls[key]
        reply(None if answer is None else {"jsonrpc": "2.0", "id": key[1], "result": answer})
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _new_ask(self, call: Call) -> int:
        with self._lock:
            number = next(self._ask_ids)
            self._asks[number] = call
        return number

    def _forget_ask(self, number: int) -> None:
        with self._lock:
            self._asks.pop(number, None)

    # -- output

    def _notify(self, method: str, params: JSON | None = None) -> None:
        message: JSON = {"jsonrpc": "2.0", "method": method}
        self._send(message if params is None else {**message, "params": params})

    def _send_if(self, reply: JSON | None) -> None:
        if reply is not None:
            self._send(reply)

    def _send(self, message: object) -> None:
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        # Half a surrogate pair, which JSON can express and UTF-8 cannot, becomes a question mark.
        data = text.encode(errors="replace") + b"\n"
        with self._writing:
            try:
                while data:
                    data = data[os.write(self._output, data) :]
            except OSError:
                pass  # The client closed our output; its closing of our input, which ends us, is on its way.


def is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def is_message(message: object) -> TypeGuard[JSON]:
    """A request, a notification or a response of JSON-RPC 2.0."""
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return False
    if "method" in message:
        return isinstance(message["method"], str) and ("id" not in message or is_id(message["id"]))
    return "id" in message


def is_request(message: object) -> bool:
    return is_message(message) and "id" in message and "method" in message


def id_key(request_id: object) -> tuple[str, object]:
    """1, "1" and true are different ids, although Python finds 1 and true equal."""
    return (type(request_id).__name__, request_id)


def error_reply(request_id: object, code: int, message: str, data: object = None) -> JSON:
    error: JSON = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": request_id, "error": error}
