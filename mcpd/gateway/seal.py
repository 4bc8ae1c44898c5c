"""Session ids and request states that describe themselves, sealed so that nobody can make or change one.

A session id carries what a session needs to be resurrected after mcpd was restarted: version and capabilities of the
client, when it began, whose it is. It ends by a message authentication code under a key that is kept in the
state directory. What was DELETEd is remembered as intervals of serial numbers, so that ten thousand ended
sessions cost no more memory than one.

A request state is the ticket by which a modern client's next request finds the call that waits for its input. It says
whose it is and which call it belongs to, under a key derived from the same one: neither can be taken for the other.

Source: "Session Management" (2025-03-26 on): visible ASCII, globally unique, cryptographically secure; 2026-07-28
"Multi Round-Trip Requests": integrity, principal, expiry and binding to the request of `requestState`.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import hashlib
import hmac
import struct
from typing import Final

import msgspec

from mcpd.protocol.capabilities import EVERYTHING, ClientCapability
from mcpd.protocol.versions import HANDSHAKE, Version

_LAYOUT: Final = struct.Struct(">BBBIII8s")
"""format, version, capabilities, begun (s since 1970), epoch, serial, principal digest."""
_FORMAT: Final = 1
_MAC: Final = 16
"""Bytes of the code: 128 bits, as much as a random UUID would have."""

KEY_SIZE: Final = 32

_TICKET: Final = struct.Struct(">B8s8s32sIII")
"""format, park, principal digest, call digest, round, issued (s since 1970), expiry (s since 1970)."""
STATE_PREFIX: Final = "mcpd."
"""What every request state begins with: states of backends pass through mcpd, and are mostly told apart by this."""
_STATE_SIZE: Final = len(STATE_PREFIX) + -(-(_TICKET.size + _MAC) * 4 // 3)
"""Characters of a request state: as many as base64 without padding needs."""

EPOCH_LENGTH: Final = 24 * 3600
"""Seconds for which serials are counted from one epoch. Ended sessions are forgotten by epochs, when every
session that can be of that epoch is too old; without this bound that would never be known of a daemon that
runs for months."""

SPANS_MAX: Final = 16_384
"""Intervals of ended sessions kept, some 3 MiB. More exist only where clients end every other session and
never the ones between; then the oldest intervals grow together, which ends the old sessions between them
too."""

_DIGITS_MAX: Final = 10
"""Digits of a number in the file: epochs and serials are 32 bits."""


class Claims(msgspec.Struct, frozen=True):
    """What a session id says. Times are whole seconds since 1970."""

    version: Version
    capabilities: ClientCapability
    begun: int
    epoch: int
    """When the run of serials began that `serial` is from: never after `begun`, and less than a day
    before."""
    serial: int
    principal: bytes

    @property
    def identity(self) -> tuple[int, int]:
        """Epoch and serial number in it: unique."""
        return self.epoch, self.serial


class Ticket(msgspec.Struct, frozen=True):
    """What a request state says. Times are whole seconds since 1970."""

    park: bytes
    """Eight random bytes that name the call which waits."""
    principal: bytes
    call: bytes
    """SHA-256 of what the call was: its method, and whom it called with which arguments."""
    round: int
    """Counts the states of one call, from 1."""
    issued: int
    expiry: int


def principal_digest(principal: str) -> bytes:
    """Eight bytes that stand for a principal inside an id."""
    return hashlib.sha256(principal.encode()).digest()[:8]


class Seal:
    """Makes and opens session ids under one key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"the session key has {len(key)} bytes, not {KEY_SIZE}")
        self._key = key

    def make(self, claims: Claims) -> str:
        """The id that says this."""
        body = _LAYOUT.pack(
            _FORMAT,
            HANDSHAKE.index(claims.version),
            int(claims.capabilities),
            claims.begun,
            claims.epoch,
            claims.serial,
            claims.principal,
        )
        return base64.urlsafe_b64encode(body + self._code(body)).rstrip(b"=").decode()

    def open(self, id: str) -> Claims | None:
        """What the id says, or None when mcpd did not make it under this key."""
        data = _decode(id) if len(id) <= 80 else None
        if data is None:
            return None
        body, code = data[:-_MAC], data[-_MAC:]
        if len(body) != _LAYOUT.size or not hmac.compare_digest(code, self._code(body)):
            return None
        format, version, capabilities, begun, epoch, serial, principal = _LAYOUT.unpack(body)
        if format != _FORMAT or version >= len(HANDSHAKE):
            return None
        return Claims(HANDSHAKE[version], ClientCapability(capabilities) & EVERYTHING, begun, epoch, serial, principal)

    def derive(self, label: bytes) -> bytes:
        """A key for another purpose, which tells nothing of this one."""
        return hmac.digest(self._key, label, "sha256")

    def _code(self, body: bytes) -> bytes:
        return hmac.digest(self._key, b"mcpd session" + body, "sha256")[:_MAC]


class StateSeal:
    """Makes and opens request states under one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, ticket: Ticket) -> str:
        """The state that says this."""
        body = _TICKET.pack(
            _FORMAT, ticket.park, ticket.principal, ticket.call, ticket.round, ticket.issued, ticket.expiry
        )
        return STATE_PREFIX + base64.urlsafe_b64encode(body + self._code(body)).rstrip(b"=").decode()

    def open(self, state: str) -> Ticket | None:
        """What the state says, or None when mcpd did not make it under this key."""
        if len(state) != _STATE_SIZE or not state.startswith(STATE_PREFIX):
            return None
        data = _decode(state[len(STATE_PREFIX) :])
        if data is None or not hmac.compare_digest(data[-_MAC:], self._code(data[:-_MAC])):
            return None
        format, *facts = _TICKET.unpack(data[:-_MAC])
        return Ticket(*facts) if format == _FORMAT else None

    def _code(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_MAC]


def _decode(text: str) -> bytes | None:
    """The bytes of base64 without padding; None for anything else, another spelling of the same bytes included."""
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    # The decoder skips what it does not know; an id with two spellings could be ended in one only.
    return data if base64.urlsafe_b64encode(data).rstrip(b"=") == text.encode("ascii") else None


class Revoked:
    """Sessions that were ended for good: sorted, merged intervals of serials for each epoch."""

    def __init__(self, spans_max: int = SPANS_MAX) -> None:
        self._spans: dict[int, list[list[int]]] = {}
        self._count = 0
        self._spans_max = spans_max

    def __len__(self) -> int:
        """Intervals kept."""
        return self._count

    def add(self, epoch: int, serial: int) -> bool:
        """Revoke one session; False when it already was."""
        return self.add_span(epoch, serial, serial)

    def add_span(self, epoch: int, first: int, last: int) -> bool:
        """Revoke all serials from first to last; False when that changes nothing."""
        spans = self._spans.setdefault(epoch, [])
        at = bisect.bisect_left(spans, [first])
        if at and spans[at - 1][1] >= first - 1:
            at -= 1
            if spans[at][1] >= last:
                return False
            spans[at][1] = last
        elif at < len(spans) and spans[at][0] <= first and spans[at][1] >= last:
            return False
        else:
            spans.insert(at, [first, last])
            self._count += 1
        while at + 1 < len(spans) and spans[at + 1][0] <= spans[at][1] + 1:
            spans[at][1] = max(spans[at][1], spans[at + 1][1])
            del spans[at + 1]
            self._count -= 1
        while self._count > self._spans_max:
            self._merge_oldest()
        return True

    def _merge_oldest(self) -> None:
        """Lose one interval on the safe side: what lies between two of them counts as ended."""
        for epoch in sorted(self._spans):
            spans = self._spans[epoch]
            if len(spans) > 1:
                spans[0][1] = spans[1][1]
                del spans[1]
                break
        else:
            # As many epochs as intervals: the oldest one is far beyond any session's age.
            del self._spans[min(self._spans)]
        self._count -= 1

    def forget(self, oldest_epoch: int) -> None:
        """Drop epochs before this one, whose sessions are too old to be used anyway."""
        for epoch in [epoch for epoch in self._spans if epoch < oldest_epoch]:
            self._count -= len(self._spans.pop(epoch))

    def __contains__(self, identity: tuple[int, int]) -> bool:
        epoch, serial = identity
        spans = self._spans.get(epoch)
        if spans is None:
            return False
        at = bisect.bisect_right(spans, [serial, 1 << 62])
        return at > 0 and spans[at - 1][1] >= serial

    def lines(self) -> list[str]:
        """One line an interval, as `load` reads them."""
        return [f"{epoch} {first} {last}" for epoch, spans in self._spans.items() for first, last in spans]

    def load(self, text: str, *, oldest_epoch: int) -> None:
        """Read lines; those of epochs whose sessions are too old to be used anyway are dropped, as are
        broken ones."""
        for line in text.splitlines():
            words = line.split()
            if len(words) == 3 and all(map(_is_number, words)):
                epoch, first, last = map(int, words)
                if epoch >= oldest_epoch and first <= last:
                    self.add_span(epoch, first, last)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= _DIGITS_MAX
