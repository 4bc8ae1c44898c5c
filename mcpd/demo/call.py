"""One running call of a tool: progress, log messages, cancellable waits, questions to the client."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = dict[str, Any]

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
ASK_SECONDS = 600.0
"""How long a question may stay open: a person answers it, perhaps after a coffee."""


class RpcError(Exception):
    """Answered as a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        self.code, self.message, self.data = code, message, data
        super().__init__(message)


class ToolError(Exception):
    """Answered as a tool result with isError, which the model reads: say what to do better."""


class Cancelled(Exception):
    """The client does not want the answer any more; none is sent."""


class Call:
    """What a tool gets as its first argument. One thread runs it; `interrupt` and `answer` come from another.

    `send` writes a message to the client, `new_id` reserves an id for a question of this call, `forget`
    frees it. `with_message`: progress has carried a message since 2025-03-26.
    """

    def __init__(
        self,
        meta: JSON,
        capabilities: JSON,
        *,
        with_message: bool,
        level: Callable[[], str],
        send: Callable[[JSON], None],
        new_id: Callable[[Call], int],
        forget: Callable[[int], None],
    ) -> None:
        self.capabilities = capabilities
        self._token = meta.get("progressToken")
        self._with_message = with_message
        self._level = level
        self._send = send
        self._new_id = new_id
        self._forget = forget
        self._wake = threading.Event()
        self._cancelled = False
        self._answer: JSON | None = None

    def progress(self, progress: float, total: float | None = None, message: str = "") -> None:
        """How far it is; sent only to a client that asked for it. `progress` must grow from call to call."""
        if self._token is None:
            return
        params: JSON = {"progressToken": self._token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message and self._with_message:
            params["message"] = message
        self._send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    def log(self, level: str, data: object) -> None:
        """A log message, unless the client set a higher level."""
        if LEVELS.index(level) >= LEVELS.index(self._level()):
            params = {"level": level, "logger": "demo", "data": data}
            self._send({"jsonrpc": "2.0", "method": "notifications/message", "params": params})

    def wait(self, seconds: float) -> None:
        """Sleeps. Raises: Cancelled as soon as the call is cancelled."""
        self._wake.wait(seconds)
        if self._cancelled:
            raise Cancelled

    def can(self, capability: str) -> bool:
        """Whether the client declared `sampling`, `elicitation` or `roots`."""
        return isinstance(self.capabilities.get(capability), dict)

    def elicit(self, message: str, properties: JSON, required: list[str] | None = None) -> JSON | None:
        """Asks the user to fill a form; returns what they entered, or None when they declined.

        Raises: ToolError when the client cannot ask, Cancelled.
        """
        schema: JSON = {"type": "object", "properties": properties, "required": required or []}
        answer = self._ask("elicitation", "elicitation/create", {"message": message, "requestedSchema": schema})
        return dict(answer.get("content") or {}) if answer.get("action") == "accept" else None

    def sample(self, prompt: str, max_tokens: int) -> str:
        """Has the client's model complete a prompt. Raises: ToolError when it will not, Cancelled."""
        messages = [{"role": "user", "content": {"type": "text", "text": prompt}}]
        params = {"messages": messages, "maxTokens": max_tokens}
        content = self._ask("sampling", "sampling/createMessage", params).get("content")
        blocks = content if isinstance(content, list) else [content]
        return "".join(str(block.get("text", "")) for block in blocks if isinstance(block, dict))

    def interrupt(self) -> None:
        """Cancels the call: whatever it waits for ends with Cancelled."""
        self._cancelled = True
        self._wake.set()

    def answer(self, message: JSON) -> None:
        """The client's answer to the question that is open."""
        self._answer = message
        self._wake.set()

    def _ask(self, capability: str, method: str, params: JSON) -> JSON:
        if not self.can(capability):
            raise ToolError(f"this needs a client that supports {capability}")
        number = self._new_id(self)
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        answered = self._wake.wait(ASK_SECONDS)
        self._forget(number)
        message = self._answer
        self._answer = None
        if self._cancelled or not answered or message is None:
            self._send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}})
            if self._cancelled:
                raise Cancelled
            raise ToolError(f"the client did not answer {method} in {ASK_SECONDS:g} seconds")
        self._wake.clear()
        if self._cancelled:  # It came between the answer and the clearing of the event.
            raise Cancelled
        if "error" in message:
            raise ToolError(f"the client refused {method}: {message['error'].get('message', 'no reason given')}")
        result = message.get("result")
        return result if isinstance(result, dict) else {}
