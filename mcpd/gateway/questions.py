"""What a client was asked and has not answered yet, and the ids of such questions.

Sessions outlive a run of the daemon, so ids are not those of an earlier run: an answer that comes late would be taken
for another one.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from mcpd.protocol.jsonrpc import Message


class Question:
    """A question to the client that waits for its answer."""

    __slots__ = ("answer", "answered")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.answer: Message | None = None


def next_id() -> bytes:
    """The id of a new question, as JSON text."""
    return b"%d" % next(_ids)


def number(id: bytes) -> bytes:
    """A question's id as we wrote it: an integer, which some clients send back as a string or a float."""
    id = id.strip(b'"')
    return id[:-2] if id.endswith(b".0") else id


_ids = itertools.count(1)


def number_from(first: int) -> None:
    """Start question ids at a number that earlier runs of the daemon have not used."""
    global _ids
    _ids = itertools.count(first)
