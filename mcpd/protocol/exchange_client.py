"""Streamable HTTP as a client: what a backend's HTTP reply means, and when a broken stream is resumed.

Theory of operation. Each message is POSTed on its own. The reply's status, content type and whether a
response was expected decide what it is (`Reply`); for a request that is answered by a stream, `step` follows
the stream to its response, across as many reconnections as the backend's event ids allow.

Rules.
1. Decide by status and content type, never by matching texts: texts differ in every server.
2. A request that was refused for its session (404) was not executed; it may be sent again in a new session.
3. A stream that ends without the response is resumed if, and only if, it gave an event id; otherwise the
   request may have been executed and its answer is lost.

Source: "Streamable HTTP" of 2025-03-26 to 2025-11-25, "Resumability and Redelivery".
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import Final


class Reply(enum.Enum):
    """What an HTTP reply to a POST means."""

    JSON = enum.auto()
    """The body is the response."""
    STREAM = enum.auto()
    """The body is an event stream."""
    ACCEPTED = enum.auto()
    """A notification or response was taken."""
    SESSION_LOST = enum.auto()
    """The backend does not know the session (any more)."""
    NOT_HERE = enum.auto()
    """Nothing speaks Streamable HTTP at this URL; it may be HTTP+SSE."""
    UNAUTHORIZED = enum.auto()
    BUSY = enum.auto()
    """Not executed; try later (429, 503)."""
    GONE = enum.auto()
    REDIRECT = enum.auto()
    FAILED = enum.auto()
    """5xx or anything else that is no answer."""
    GARBAGE = enum.auto()
    """A success that is not MCP: HTML, or 202 to a request."""


STATUSES: Final[dict[int, Reply]] = {
    401: Reply.UNAUTHORIZED,
    403: Reply.UNAUTHORIZED,
    405: Reply.NOT_HERE,
    410: Reply.GONE,
    429: Reply.BUSY,
    503: Reply.BUSY,
    301: Reply.REDIRECT,
    302: Reply.REDIRECT,
    303: Reply.REDIRECT,
    307: Reply.REDIRECT,
    308: Reply.REDIRECT,
}
"""Statuses that mean the same whatever was sent. 2xx, 400 and 404 depend on it; the rest is FAILED."""


@lru_cache(maxsize=256)
def classify(status: int, content_type: bytes, *, expects_response: bool, has_session: bool) -> Reply:
    """What a reply means. `has_session`: a session id was sent along."""
    if 200 <= status < 300:
        kind = content_type.partition(b";")[0].strip().lower()
        if not expects_response:
            return Reply.ACCEPTED  # 200, 202 and 204 all occur, with and without a body
        if kind == b"text/event-stream":
            return Reply.STREAM
        if kind == b"application/json" and status != 202:
            return Reply.JSON
        return Reply.GARBAGE
    if status == 404:
        return Reply.SESSION_LOST if has_session else Reply.NOT_HERE
    if status == 400:
        return Reply.FAILED if has_session else Reply.NOT_HERE
    return STATUSES.get(status, Reply.FAILED)


class State(enum.Enum):
    """Where one POSTed request stands."""

    POSTED = enum.auto()
    READING = enum.auto()
    """An event stream is open and the response has not come yet."""
    WAITING = enum.auto()
    """The stream ended early; the retry time runs."""
    RESUMING = enum.auto()
    """A GET with Last-Event-ID is under way."""
    ANSWERED = enum.auto()
    LOST = enum.auto()


class Event(enum.Enum):
    """What can happen to it."""

    JSON = enum.auto()
    STREAM = enum.auto()
    RESPONSE = enum.auto()
    END_RESUMABLE = enum.auto()
    """The stream ended or broke after an event id was seen."""
    END = enum.auto()
    """The stream ended or broke, and there is nothing to resume by."""
    RETRY = enum.auto()
    REFUSED = enum.auto()


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.POSTED: {
        Event.JSON: State.ANSWERED,
        Event.STREAM: State.READING,
        Event.REFUSED: State.LOST,
        Event.END: State.LOST,
    },
    State.READING: {
        Event.RESPONSE: State.ANSWERED,
        Event.END_RESUMABLE: State.WAITING,
        Event.END: State.LOST,
    },
    State.WAITING: {Event.RETRY: State.RESUMING},
    State.RESUMING: {
        Event.STREAM: State.READING,
        # The connection failed, not the resumption: try again until the call's deadline.
        Event.END_RESUMABLE: State.WAITING,
        Event.REFUSED: State.LOST,
    },
    State.ANSWERED: {},
    State.LOST: {},
}


def step(state: State, event: Event) -> State:
    """The next state. Raises: KeyError when the event cannot happen in that state (a bug in mcpd)."""
    return TRANSITIONS[state][event]


DEFAULT_RETRY: Final = 1.0
"""Seconds before a stream is resumed when the backend named no `retry:`; the event-stream standard suggests a
few seconds."""

RETRY_MIN: Final = 0.1
"""Seconds; a backend that says 0 and ends every stream at once would be asked without a pause."""

RETRY_MAX: Final = 30.0
"""Seconds; a backend that asks for more would outlast most calls."""


def retry_delay(retry: int | None) -> float:
    """Seconds to wait before resuming, from the last `retry:` field in milliseconds."""
    if retry is None:
        return DEFAULT_RETRY
    return max(RETRY_MIN, min(retry, RETRY_MAX * 1000) / 1000)
