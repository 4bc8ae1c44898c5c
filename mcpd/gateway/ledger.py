"""The record of each call that clients made: who, what, how it ended, how long it took and how much it was.

Theory of operation. Whoever carries a call out says here how it ended, once. That becomes an event for whoever follows
`mcpd.events`, and an audit line. Lines are written a few at a time by one task, because to write one costs more than
all else that is done for it.

Rules.
1. What was in a call is not recorded, unless the configuration says so; nor is what came of it.
2. A call that mcpd refused is recorded like any other: who tried to use what is not theirs is what audits are for.
3. A URI is recorded without what may be a secret in it: user and password, and its query.
"""

from __future__ import annotations

import logging
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.entries import quoted
from mcpd.errors import BackendError, ProtocolError, RpcError
from mcpd.log import write_entries
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import LOCAL, client_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.backends.base import Backend
    from mcpd.config.model import Audit
    from mcpd.events import Events
    from mcpd.protocol.calls import Call
    from mcpd.protocol.jsonrpc import Buffer

LOGGER: Final = "mcpd.audit"

KINDS: Final = {"tools/call": "tool", "prompts/get": "prompt", "resources/read": "resource"}
"""Methods that are recorded, and what each is about."""

HELD_BACK: Final = 0.1
"""Seconds after which a line is written at the latest: at a thousand calls a second a hundred are written at once. What
a crash of mcpd loses is as old as that."""

HELD_MAX: Final = 512
"""Lines that wait; one more has all of them written at once."""

NAME_MAX: Final = 200
"""Characters of a name or URI. Names of tools are at most `naming.name_max`; those that nobody has may be anything."""

EXPOSED_MAX: Final = 4 * NAME_MAX
"""Bytes of the same as JSON: a longer one is cut before it is kept."""

ARGUMENTS_MAX: Final = 4096
"""Characters of arguments; a journal takes lines of 48 KiB, and nobody reads them."""

SCAN_MAX: Final = 64 * 1024
"""Bytes of a result that are searched for `isError`. A longer one is no error message."""

OUTSIDE: Final = frozenset({"client", "tool", "prompt", "resource", "name", "arguments"})
"""Fields whose values are others'."""

INFO_MAX: Final = 1024
"""Bytes of what a modern client says of itself with every request; more is not looked at."""

_ERROR: Final = re.compile(rb'"isError"\s*:\s*true')
_USERINFO: Final = re.compile(r"(?<=://)[^/?#@]*@")


class Record(msgspec.Struct, gc=False):
    """One call that has ended. Implements `events.Describable` and `entries.Entry`. Refers to nothing of the request,
    which may be large.
    """

    principal: str
    client: str
    protocol: str
    method: str
    exposed: bytes
    """The name or URI that the client used, as JSON text."""
    backend: str
    """Empty when the call got no further than mcpd."""
    name: str
    """What the server itself calls it."""
    outcome: str
    """`ok`; `error`: the tool says that it failed; `failed`: the server answered with an error, or did not answer;
    `refused`: mcpd did not send it; `cancelled`."""
    code: int
    """Of the JSON-RPC error; 0 where there was none."""
    why: str
    """The kind of failure of the server, in a word."""
    seconds: float
    received: int
    sent: int
    arguments: str = ""

    def describe(self) -> dict[str, object]:
        """As JSON has it."""
        kind = KINDS[self.method]
        about: dict[str, object] = {
            "server": self.backend or None,
            "principal": self.principal or LOCAL,
            "client": self.client,
            "protocol": self.protocol,
            "method": self.method,
            kind: shown(self.exposed, kind),
        }
        if self.name:
            about["name"] = self.name
        about["outcome"] = self.outcome
        if self.code:
            about["code"] = self.code
        if self.why:
            about["why"] = self.why
        about["ms"] = round(self.seconds * 1000, 1)
        about["bytes_in"] = self.received
        about["bytes_out"] = self.sent
        if self.arguments:
            about["arguments"] = self.arguments
        return about

    def fields(self, clear: Callable[[str], str]) -> dict[str, object]:
        """For the log as JSON (`entries.Entry`)."""
        about = {key: clear(value) if key in OUTSIDE else value for key, value in self.describe().items()}  # type: ignore[arg-type]
        return {"event": "call", **about}

    def text(self, clear: Callable[[str], str]) -> str:
        """For the log as text: the server and the event first, as in every line."""
        kind = KINDS[self.method]
        server = f"backend={self.backend} " if self.backend else ""
        client = quoted(clear(self.client)) if self.client else "-"
        name = f" name={quoted(clear(self.name))}" if self.name else ""
        code = f" code={self.code}" if self.code else ""
        why = f" why={self.why}" if self.why else ""
        arguments = f" arguments={clear(self.arguments)!r}" if self.arguments else ""
        exposed = quoted(clear(shown(self.exposed, kind)))
        return (
            f"{server}event=call principal={quoted(self.principal or LOCAL)} client={client} protocol={self.protocol}"
            f" method={self.method} {kind}={exposed}{name} outcome={self.outcome}{code}{why}"
            f" ms={self.seconds * 1000:.1f} bytes_in={self.received} bytes_out={self.sent}{arguments}"
        )


class Ledger:
    """Takes down every call that ends."""

    def __init__(self, events: Events, audit: Audit) -> None:
        self._events = events
        self._log = logging.getLogger(LOGGER)
        self._waiting: list[tuple[float, Record]] = []
        self._some = trio.Event()
        self._writes = self._tells = False
        self.configure(audit)

    def configure(self, audit: Audit) -> None:
        """Go by other settings from now on."""
        self._writes = audit.calls != "off"
        self._tells = audit.calls == "arguments"

    async def run(self) -> None:
        """Write lines until cancelled."""
        try:
            while True:
                await self._some.wait()
                await trio.sleep(HELD_BACK)
                self.flush()
        finally:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._some.is_set():
            self._some = trio.Event()
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            write_entries(LOGGER, logging.INFO, waiting)

    def answered(self, call: Call, exposed: bytes, backend: Backend, name: str, began: float, result: Buffer) -> None:
        """The server answered; `began` is on Trio's clock."""
        size = len(result) if type(result) is bytes else memoryview(result).nbytes
        outcome = "ok"
        if size <= SCAN_MAX and call.method == "tools/call" and says_error(result):
            outcome = "error"
        self._note(call, exposed, backend.name, name, outcome, 0, "", began, size)

    def refused(self, call: Call, exposed: bytes, backend: Backend, name: str, began: float, result: bytes) -> None:
        """mcpd answered in the server's place, because the arguments are wrong."""
        self._note(call, exposed, backend.name, name, "refused", 0, "", began, len(result))

    def ended(
        self,
        call: Call,
        exposed: bytes,
        backend: Backend | None,
        name: str,
        began: float,
        error: BaseException,
        sent: bool,
    ) -> None:
        """There is no result, for this reason; `sent`: the server was asked."""
        if isinstance(error, RpcError):
            why = error.kind if isinstance(error, BackendError) else ""
            outcome, code, size = "failed" if sent else "refused", error.code, len(error.raw or error.message)
        else:
            cancelled = isinstance(error, trio.Cancelled)
            outcome, code, why, size = "cancelled" if cancelled else "failed", 0, "" if cancelled else "internal", 0
        self._note(call, exposed, backend.name if backend else "", name, outcome, code, why, began, size)

    def _note(
        self,
        call: Call,
        exposed: bytes,
        backend: str,
        name: str,
        outcome: str,
        code: int,
        why: str,
        began: float,
        size: int,
    ) -> None:
        if len(exposed) > EXPOSED_MAX:
            exposed = msgspec.json.encode(shown(exposed, KINDS[call.method]))
        params = call.params
        received = len(params) if type(params) is bytes else memoryview(params).nbytes
        seconds = trio.current_time() - began
        caller = call.caller
        info = caller.client_info
        client = caller.client if info is None else said_of(info) if len(info) <= INFO_MAX else ""
        version = caller.version.text
        record = Record(
            caller.principal,
            client,
            version,
            call.method,
            exposed,
            backend,
            name,
            outcome,
            code,
            why,
            seconds,
            received,
            size,
        )
        at = time.time()
        self._events.note_call(at, record)
        if not self._writes or not self._log.isEnabledFor(logging.INFO):
            return
        if self._tells:
            # The event goes to whoever may look, the line to who reads the log.
            record = msgspec.structs.replace(record, arguments=arguments_of(call))
        self._waiting.append((at, record))
        if len(self._waiting) == 1:
            self._some.set()
        elif len(self._waiting) >= HELD_MAX:
            self.flush()


def says_error(result: Buffer) -> bool:
    """Whether a tool's result says that the tool failed."""
    if _ERROR.search(result) is None:
        return False
    try:
        return bytes(jsonrpc.members_of(result).get("isError", b"")) == b"true"
    except (ProtocolError, ValueError):
        return False


def arguments_of(call: Call) -> str:
    """What a call was made with, as JSON in one line, cut to ARGUMENTS_MAX."""
    raw = call.members.get("arguments")
    text = bytes(raw).decode("utf-8", "replace") if raw is not None else ""
    text = " ".join(text.split("\n"))
    return text if len(text) <= ARGUMENTS_MAX else text[:ARGUMENTS_MAX] + "…"


@lru_cache(256)
def said_of(info: bytes) -> str:
    """What a client says that it is: `name/version`; empty where it says nothing that can be read."""
    try:
        return msgspec.json.decode(info, type=_ClientInfo).shown
    except (msgspec.DecodeError, ValueError, RecursionError):
        return ""


class _ClientInfo(msgspec.Struct):
    name: object = ""
    version: object = ""

    @property
    def shown(self) -> str:
        name, version = (each if isinstance(each, str) else "" for each in (self.name, self.version))
        return client_text(name, version)


def shown(exposed: bytes, kind: str) -> str:
    """A name or URI as it may be shown (rule 3)."""
    try:
        text = msgspec.json.decode(exposed, type=str)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return "?"  # none was given
    if kind == "resource":
        text = _USERINFO.sub("***@", text, count=1)
        head, question, _ = text.partition("?")
        text = head + ("?***" if question else "")
    return text if len(text) <= NAME_MAX else text[:NAME_MAX] + "…"
