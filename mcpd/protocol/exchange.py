"""Streamable HTTP as a server: which requests are accepted, and how each is answered.

Theory of operation. A request is checked by its head (`refusal`), then its messages decide what it is. An
accepted request is one exchange: it waits, is answered with plain JSON if nothing had to be said before the
result, and becomes an event stream as soon as something must be: a notification, a question, or patience
running out. A stream may end before its exchange does: because the client vanished, or because mcpd ends it
to be polled. What is said meanwhile is kept, and handed to whoever comes with `Last-Event-ID`.

Rules.
1. A message goes to exactly one stream, and into its log before it goes out.
2. Losing the connection is not cancellation: the exchange goes on.
3. Clients older than 2025-11-25 get no event with empty data: they parse it as JSON.
4. An event id names its stream, so that a client can resume any of them.

A modern request passes the same head rungs; what its body and its headers must say of each other comes after them,
in the front. Its answer is no exchange in this sense: it is lost with its connection.

Source: "Streamable HTTP" of 2025-03-26 to 2026-07-28; status codes as RFC 9110 has them.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from mcpd.errors import INVALID_REQUEST, PARSE_ERROR, ProtocolError
from mcpd.protocol.jsonrpc import Message, decode_from_client, decode_many, is_array
from mcpd.protocol.lines import BOM
from mcpd.protocol.versions import MODERN, Version, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


METHODS: Final = (b"POST", b"GET", b"DELETE")
ALLOW: Final = b"Allow: POST, GET, DELETE\r\n"


class State(enum.Enum):
    """Where the answer to one POSTed request stands."""

    __hash__ = object.__hash__  # members are single objects; Enum's own hash is a Python call for each look-up

    WAITING = enum.auto()
    """Nothing was sent yet."""
    STREAMING = enum.auto()
    """An event stream is open."""
    PARTED = enum.auto()
    """The stream ended or was lost; the call goes on and what it says is kept."""
    ENDED = enum.auto()
    """The outcome is known and was sent or kept."""


class Event(enum.Enum):
    """What can happen to it."""

    __hash__ = object.__hash__  # members are single objects; Enum's own hash is a Python call for each look-up

    NOTICE = enum.auto()
    """The call emits a notification or asks the client something."""
    HOLD = enum.auto()
    """The answer has been waited for long enough."""
    PART = enum.auto()
    """mcpd wants to be polled for the rest."""
    GONE = enum.auto()
    """The client's connection is lost."""
    RESUME = enum.auto()
    """The client came back with Last-Event-ID."""
    OUTCOME = enum.auto()
    """Result or error."""


class Action(enum.Enum):
    """What the frontend does about it, in order."""

    OPEN = enum.auto()
    """Send the head of an event stream, with a priming event for clients that know it."""
    KEEP = enum.auto()
    """Put the message into the stream's log."""
    SEND = enum.auto()
    """Write the logged message to the open stream."""
    ANSWER = enum.auto()
    """Send the outcome as plain JSON."""
    END = enum.auto()
    """End the open stream."""
    ATTACH = enum.auto()
    """Replay the log after Last-Event-ID on the new stream, which is the open one from now on."""


TRANSITIONS: Final[dict[State, dict[Event, tuple[State, tuple[Action, ...]]]]] = {
    State.WAITING: {
        Event.NOTICE: (State.STREAMING, (Action.OPEN, Action.KEEP, Action.SEND)),
        Event.HOLD: (State.STREAMING, (Action.OPEN,)),
        Event.PART: (State.PARTED, (Action.OPEN, Action.END)),
        Event.GONE: (State.PARTED, ()),
        Event.OUTCOME: (State.ENDED, (Action.ANSWER,)),
    },
    State.STREAMING: {
        Event.NOTICE: (State.STREAMING, (Action.KEEP, Action.SEND)),
        Event.HOLD: (State.STREAMING, ()),
        Event.PART: (State.PARTED, (Action.END,)),
        Event.GONE: (State.PARTED, ()),
        # The client reconnected before mcpd noticed that it was gone: the new connection replaces the old.
        Event.RESUME: (State.STREAMING, (Action.END, Action.ATTACH)),
        Event.OUTCOME: (State.ENDED, (Action.KEEP, Action.SEND, Action.END)),
    },
    State.PARTED: {
        Event.NOTICE: (State.PARTED, (Action.KEEP,)),
        Event.HOLD: (State.PARTED, ()),
        Event.PART: (State.PARTED, ()),
        Event.GONE: (State.PARTED, ()),
        Event.RESUME: (State.STREAMING, (Action.ATTACH,)),
        Event.OUTCOME: (State.ENDED, (Action.KEEP,)),
    },
    State.ENDED: {
        Event.HOLD: (State.ENDED, ()),
        Event.PART: (State.ENDED, ()),
        Event.GONE: (State.ENDED, ()),
        Event.RESUME: (State.ENDED, (Action.ATTACH, Action.END)),
        # A backend that goes on talking after its answer: dropped, for nothing may follow the response.
        Event.NOTICE: (State.ENDED, ()),
    },
}


def step(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    """The next state and what to do. Raises: KeyError when the event cannot happen in that state (a bug in
    mcpd)."""
    return TRANSITIONS[state][event]


# ---- accepting ---------------------------------------------------------------------------------------------


def media_types(value: bytes) -> dict[bytes, bool]:
    """The media types of an Accept or Content-Type header, lower-case, and whether they are wanted: q=0
    refuses."""
    found: dict[bytes, bool] = {}
    for part in value.split(b","):
        name, *parameters = part.split(b";")
        name = name.strip().lower()
        found[name] = found.get(name, False) or not any(_is_zero(parameter) for parameter in parameters)
    return found


def _is_zero(parameter: bytes) -> bool:
    name, _, weight = parameter.partition(b"=")
    weight = weight.strip()
    return name.strip().lower() == b"q" and weight.startswith(b"0") and weight.strip(b"0") in (b"", b".")


def _accepts(headers: Mapping[bytes, bytes], wanted: bytes) -> bool:
    # No Accept header means anything will do (RFC 9110 §12.5.1), and real clients leave it out.
    value = headers.get(b"accept")
    if value is None:
        return True
    types = media_types(value)
    for name in (wanted, wanted.partition(b"/")[0] + b"/*", b"*/*"):
        if name in types:
            return types[name]  # the most specific entry decides (RFC 9110 §12.5.1)
    return False


def _is_json(headers: Mapping[bytes, bytes]) -> bool:
    # Left out by some hand-written clients; the Origin check, which came before, keeps browsers from making
    # use of it.
    return media_types(headers.get(b"content-type", b"application/json")).keys() == {b"application/json"}


Rung = tuple["Callable[[Mapping[bytes, bytes]], bool]", int, str]

RUNGS: Final[dict[bytes, tuple[Rung, ...]]] = {
    b"POST": (
        (_is_json, 415, "Content-Type must be application/json"),
        (lambda h: _accepts(h, b"application/json"), 406, "Accept must include application/json"),
        (lambda h: _accepts(h, b"text/event-stream"), 406, "Accept must include text/event-stream"),
    ),
    b"GET": ((lambda h: _accepts(h, b"text/event-stream"), 406, "Accept must include text/event-stream"),),
    b"DELETE": (),
}
"""What a head must pass, in this order, for each HTTP method: (condition, status, why not)."""


def prefers_stream(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a client names event streams before JSON. HTTP leaves the choice to the server; this is how
    mcpd makes it."""
    accept = headers.get(b"accept", b"").lower()
    stream, json = accept.find(b"text/event-stream"), accept.find(b"application/json")
    return 0 <= stream < json


def refusal(method: bytes, headers: Mapping[bytes, bytes]) -> tuple[int, str] | None:
    """Why a head is refused: status and reason, or None. Origin, Host and authentication came before this."""
    rungs = RUNGS.get(method)
    if rungs is None:
        return 405, f"{method.decode('latin-1')} is not for this endpoint; use POST, GET or DELETE"
    for holds, status, reason in rungs:
        if not holds(headers):
            return status, reason
    return None


def version_refusal(headers: Mapping[bytes, bytes]) -> str | None:
    """Why MCP-Protocol-Version is refused on a request of a session, or None. Absent means 2025-03-26, which
    is known."""
    value = headers.get(b"mcp-protocol-version")
    if value is None:
        return None
    version = parse(value.decode("latin-1").strip())
    if version is None or version >= MODERN:
        return f"MCP-Protocol-Version {value.decode('latin-1')!r} is not a version this session can use"
    return None


ROUTING: Final = (b"mcp-protocol-version", b"mcp-method", b"mcp-name")
"""Headers by which others route a modern request, unseen by us: whom it is for must not depend on who reads them."""


def repeated_routing(repeated: frozenset[bytes]) -> str | None:
    """A header of a modern request that came more than once and must not, spelled for people; None: all is well."""
    for name in ROUTING:
        if name in repeated:
            return "MCP-Protocol-Version" if name == ROUTING[0] else name.decode().title()
    return None


def read_body(body: bytes, *, batches: bool) -> tuple[list[Message | ProtocolError], bool]:
    """The messages of a POST body, and whether they came as an array.

    Raises: ProtocolError: not JSON, not a message, or an array where the version has none.
    """
    body = body.removeprefix(BOM)  # .NET's writers begin with one, and RFC 8259 §8.1 lets receivers ignore it
    if not body or body.isspace():
        raise ProtocolError(PARSE_ERROR, "the body is empty; POST one JSON-RPC message")
    if not is_array(body):
        return [decode_from_client(body)], False
    if not batches:
        raise ProtocolError(
            INVALID_REQUEST, "batches exist in protocol version 2025-03-26 only; send one message a request"
        )
    return decode_many(body), True


# ---- event ids and replay ----------------------------------------------------------------------------------


def event_id(stream: int, number: int) -> bytes:
    """The id of a stream's n-th event; 0 is the priming event."""
    return b"%d-%d" % (stream, number)


def parse_event_id(value: bytes) -> tuple[int, int] | None:
    """Stream and number from a Last-Event-ID header, or None when mcpd never sent such an id."""
    stream, dash, number = value.strip().partition(b"-")
    if not dash or not stream.isdigit() or not number.isdigit() or len(value) > 40:
        return None
    return int(stream), int(number)


class EventLog:
    """What one stream said, for those who come back. Bounded; the oldest events go first."""

    __slots__ = ("_events", "first", "size", "stream")

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.first = 1
        """Number of the oldest event that is kept."""
        self.size = 0
        self._events: list[bytes] = []

    def __len__(self) -> int:
        return len(self._events)

    def keep(self, message: bytes, *, events_max: int, bytes_max: int) -> bytes:
        """Add a message and return its event id. The newest is always kept, however large."""
        events = self._events
        events.append(message)
        self.size += len(message)
        gone = 0
        while gone < len(events) - 1 and (len(events) - gone > events_max or self.size > bytes_max):
            self.size -= len(events[gone])
            gone += 1
        if gone:
            del events[:gone]
            self.first += gone
        return event_id(self.stream, self.first + len(events) - 1)

    def after(self, number: int) -> list[tuple[bytes, bytes]]:
        """(event id, message) of all kept events later than `number`."""
        start = max(0, number + 1 - self.first)
        return [(event_id(self.stream, self.first + at), self._events[at]) for at in range(start, len(self._events))]

    @property
    def messages(self) -> list[bytes]:
        """All that is kept, the first of them `first`."""
        return self._events.copy()

    @classmethod
    def of(cls, stream: int, first: int, messages: list[bytes]) -> EventLog:
        """A log as another was when it held these."""
        log = cls(stream)
        log.first = first
        log._events = messages.copy()
        log.size = sum(map(len, messages))
        return log

    def clear(self) -> None:
        """Forget everything but the numbering."""
        self.first += len(self._events)
        self._events.clear()
        self.size = 0


def primes(version: Version) -> bool:
    """Whether a client of this version understands events with an id and empty data (rule 3)."""
    return version >= Version.V2025_11_25
