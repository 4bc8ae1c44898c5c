"""The record of each call that clients made: who, what, how it ended, how long it took and how much it was.

Theory of operation. Whoever carries a call out says here how it ended, once. That becomes an event for whoever follows
`mcpd.events`, and an audit line. On the way of the call a tuple is all that is made: what it says is put into words
when somebody reads events, and a few times a second for all lines at once.

Rules.
1. What was in a call is not recorded, unless the configuration says so; nor is what came of it.
2. A call that mcpd refused is recorded like any other: who tried to use what is not theirs is what audits are for.
3. A URI is recorded without what may be a secret in it: user and password, and its query.
4. A record refers to nothing of the request: those may be large, and records are kept.
"""

from __future__ import annotations

import logging
import re
import time
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import trio

from mcpd.entries import quoted
from mcpd.errors import BackendError, ProtocolError, RpcError
from mcpd.gateway.tally import Tally
from mcpd.log import write_entries
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import LOCAL, client_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.config.model import Audit
    from mcpd.events import Events
    from mcpd.protocol.calls import Call, Caller
    from mcpd.protocol.jsonrpc import Buffer

LOGGER: Final = "mcpd.audit"

KINDS: Final = {"tools/call": "tool", "prompts/get": "prompt", "resources/read": "resource"}
"""Methods that are recorded, and what each is about."""

HELD_BACK: Final = 0.1
"""Seconds after which a line is written at the latest: at a thousand calls a second a hundred are written at once. What
a crash of mcpd loses is as old as that."""

HELD_MAX: Final = 1024
"""Lines that wait; one more has all of them written at once. It takes two milliseconds."""

NAME_MAX: Final = 200
"""Characters of a name or URI. Names of tools are at most `naming.name_max`; those that nobody has may be anything."""

EXPOSED_MAX: Final = 4 * NAME_MAX
"""Bytes of the same as JSON: a longer one is cut before it is kept."""

ARGUMENTS_MAX: Final = 4096
"""Characters of arguments; a journal takes lines of 48 KiB, and nobody reads them."""

SCAN_MAX: Final = 64 * 1024
"""Bytes of a result that are searched for `isError`. A longer one is no error message."""

INFO_MAX: Final = 1024
"""Bytes of what a modern client says of itself with every request; more is not looked at."""

HEADS_KEPT: Final = 1024
"""First halves of lines: of clients, tools and servers the same come again and again."""

_MARK: Final = b'"isError"'
_ERROR: Final = re.compile(rb'"isError"\s*:\s*true')
_USERINFO: Final = re.compile(r"(?<=://)[^/?#@]*@")


class Record(NamedTuple):
    """One call that has ended, as it is kept. Implements `events.Describable` and `entries.Entry`."""

    began: float
    """When, as `perf_counter` has it."""
    ended: float
    caller: Caller
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
    received: int
    sent: int
    arguments: str

    def describe(self) -> dict[str, object]:
        """As JSON has it."""
        about = self.fields(_as_it_is)
        del about["event"]
        return about

    def fields(self, clear: Callable[[str], str]) -> dict[str, object]:
        """By name, for the log as JSON and for events; without the arguments if there are none."""
        kind = KINDS[self.method]
        about: dict[str, object] = {
            "event": "call",
            "server": self.backend or None,
            "principal": self.caller.principal or LOCAL,
            "client": clear(client_of(self.caller)),
            "protocol": self.caller.version.text,
            "method": self.method,
            kind: clear(shown(self.exposed, kind)),
        }
        if self.name:
            about["name"] = clear(self.name)
        about["outcome"] = self.outcome
        if self.code:
            about["code"] = self.code
        if self.why:
            about["why"] = self.why
        about["ms"] = round((self.ended - self.began) * 1000, 1)
        about["bytes_in"] = self.received
        about["bytes_out"] = self.sent
        if self.arguments:
            about["arguments"] = clear(self.arguments)
        return about

    def text(self, clear: Callable[[str], str]) -> str:
        """For the log as text: the server and the event first, as in every line."""
        began, ended, caller, method, exposed, backend, name, outcome, code, why, received, sent, arguments = self
        head = _head(clear, caller.principal, client_of(caller), caller.version.text, method, exposed, backend, name)
        fault = (f" code={code}" if code else "") + (f" why={why}" if why else "") if code or why else ""
        said = f" arguments={clear(arguments)!r}" if arguments else ""
        ms = (ended - began) * 1000
        return f"{head} outcome={outcome}{fault} ms={ms:.1f} bytes_in={received} bytes_out={sent}{said}"


class Ledger:
    """Takes down every call that ends."""

    def __init__(self, events: Events, audit: Audit) -> None:
        self._events = events
        self.tally = Tally()
        self._waiting: list[Record] = []
        self._some = trio.Event()
        self._writes = self._tells = False
        self.configure(audit)

    def configure(self, audit: Audit) -> None:
        """Go by other settings from now on."""
        self._writes = audit.calls != "off" and logging.getLogger(LOGGER).isEnabledFor(logging.INFO)
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
            # The clock of records does not jump; that of logs is everybody's.
            offset = time.time() - perf_counter()
            write_entries(LOGGER, logging.INFO, [(record.ended + offset, record) for record in waiting])

    def answered(
        self, call: Call, exposed: bytes, backend: str, name: str, began: float, result: Buffer, size: int
    ) -> None:
        """The server answered, with so many bytes."""
        outcome = "ok"
        if size <= SCAN_MAX and _MARK in bytes(result) and call.method == "tools/call" and says_error(result):
            outcome = "error"
        self._note(call, exposed, backend, name, outcome, 0, "", began, size)

    def refused(self, call: Call, exposed: bytes, backend: str, name: str, began: float, result: bytes) -> None:
        """mcpd answered in the server's place, because the arguments are wrong."""
        self._note(call, exposed, backend, name, "refused", 0, "", began, len(result))

    def ended(
        self, call: Call, exposed: bytes, backend: str, name: str, began: float, error: BaseException, sent: bool
    ) -> None:
        """There is no result, for this reason; `sent`: the server was asked."""
        if isinstance(error, RpcError):
            why = error.kind if isinstance(error, BackendError) else ""
            outcome, code, size = "failed" if sent else "refused", error.code, len(error.raw or error.message)
        else:
            cancelled = isinstance(error, trio.Cancelled)
            outcome, code, why, size = "cancelled" if cancelled else "failed", 0, "" if cancelled else "internal", 0
        self._note(call, exposed, backend, name, outcome, code, why, began, size)

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
        caller, method, params = call.caller, call.method, call.params
        if len(exposed) > EXPOSED_MAX:
            exposed = msgspec.json.encode(shown(exposed, KINDS[method]))
        if caller.client_info is not None and len(caller.client_info) > INFO_MAX:
            caller = msgspec.structs.replace(caller, client_info=None)  # rule 4
        received = len(params) if type(params) is bytes else memoryview(params).nbytes
        ended = perf_counter()
        self.tally.note(backend, method, outcome, code, why, ended - began, received, size)
        record = Record(began, ended, caller, method, exposed, backend, name, outcome, code, why, received, size, "")
        self._events.note_call(record)
        if not self._writes:
            return
        if self._tells:
            # The event goes to whoever may look, the line to who reads the log.
            record = record._replace(arguments=arguments_of(call))
        waiting = self._waiting
        waiting.append(record)
        if len(waiting) == 1:
            self._some.set()
        elif len(waiting) >= HELD_MAX:
            self.flush()


@lru_cache(HEADS_KEPT)
def _head(
    clear: Callable[[str], str],
    principal: str,
    client: str,
    protocol: str,
    method: str,
    exposed: bytes,
    backend: str,
    name: str,
) -> str:
    """What comes before the outcome. `clear` is another one when there are other secrets."""
    kind = KINDS[method]
    server = f"backend={backend} " if backend else ""
    real = f" name={quoted(clear(name))}" if name else ""
    who = f"principal={quoted(principal or LOCAL)} client={quoted(clear(client)) if client else '-'}"
    what = quoted(clear(shown(exposed, kind)))
    return f"{server}event=call {who} protocol={protocol} method={method} {kind}={what}{real}"


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


def client_of(caller: Caller) -> str:
    """What a client says that it is: `name/version`; empty where it says nothing."""
    return caller.client if caller.client_info is None else said_of(caller.client_info)


@lru_cache(256)
def said_of(info: bytes) -> str:
    """The same of a modern client; empty where it cannot be read."""
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


def _as_it_is(text: str) -> str:
    return text
