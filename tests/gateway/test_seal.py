from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpd.gateway.seal import (
    KEY_SIZE,
    STATE_PREFIX,
    Claims,
    Revoked,
    Seal,
    StateSeal,
    Ticket,
    principal_digest,
)
from mcpd.protocol.capabilities import EVERYTHING, ClientCapability
from mcpd.protocol.versions import HANDSHAKE, Version

SEAL = Seal(bytes(range(32)))
U32 = st.integers(0, 2**32 - 1)
CLAIMS = st.builds(
    Claims,
    version=st.sampled_from(HANDSHAKE),
    capabilities=st.integers(0, int(EVERYTHING)).map(ClientCapability),
    begun=U32,
    epoch=U32,
    serial=U32,
    principal=st.binary(min_size=8, max_size=8),
)


def claims(serial: int = 7, **others) -> Claims:
    values = {
        "version": Version.V2025_06_18,
        "capabilities": ClientCapability.ROOTS,
        "begun": 100,
        "epoch": 90,
        "serial": serial,
        "principal": principal_digest(""),
    }
    return Claims(**{**values, **others})


@given(CLAIMS)
def test_an_id_says_what_it_was_made_of(made):
    id = SEAL.make(made)
    assert SEAL.open(id) == made
    assert len(id) == 52
    assert id.isascii()
    assert id.isprintable()


@given(CLAIMS, st.integers(0, 51), st.characters())
def test_a_changed_character_makes_an_id_worthless(made, at, character):
    id = SEAL.make(made)
    forged = id[:at] + character + id[at + 1 :]
    assert SEAL.open(forged) == (made if forged == id else None)


@pytest.mark.parametrize("cut", range(52))
def test_a_truncated_id_is_worthless(cut):
    assert SEAL.open(SEAL.make(claims())[:cut]) is None


@pytest.mark.parametrize("text", ["", "=", "AAAA", "A" * 52, "A" * 10**6, "é" * 52, "\ud800" * 4, "\x00" * 52])
def test_junk_is_worthless(text):
    assert SEAL.open(text) is None


@pytest.mark.parametrize("noise", ["=", "!", "\n", " ", "*"])
@pytest.mark.parametrize("at", [0, 20, 52])
def test_an_id_has_one_spelling(noise, at):
    """Whoever could spell an ended session's id in another way would have it back."""
    id = SEAL.make(claims())
    assert SEAL.open(id[:at] + noise + id[at:]) is None


def test_the_other_base64_alphabet_is_no_second_spelling():
    for serial in range(200):
        id = SEAL.make(claims(serial))
        other = id.translate(str.maketrans("-_", "+/"))
        assert other == id or SEAL.open(other) is None


def test_an_id_under_another_key_is_worthless():
    assert Seal(bytes(KEY_SIZE)).open(SEAL.make(claims())) is None


def test_a_foreign_format_or_version_under_our_own_key_is_worthless():
    good = base64.urlsafe_b64decode(SEAL.make(claims()))[:-16]
    for at, value in ((0, 2), (1, len(HANDSHAKE))):
        body = good[:at] + bytes([value]) + good[at + 1 :]
        assert SEAL.open(base64.urlsafe_b64encode(body + SEAL._code(body)).decode()) is None


def test_capabilities_of_a_newer_mcpd_are_dropped():
    body = base64.urlsafe_b64decode(SEAL.make(claims()))[:-16]
    body = body[:2] + b"\xff" + body[3:]
    opened = SEAL.open(base64.urlsafe_b64encode(body + SEAL._code(body)).decode())
    assert opened is not None
    assert opened.capabilities == EVERYTHING


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused(size):
    with pytest.raises(ValueError, match="32"):
        Seal(bytes(size))


# ---- what has ended


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 5)), max_size=40))
def test_intervals_are_the_set_they_stand_for(spans):
    revoked, plain = Revoked(), set()
    for epoch, first, more in spans:
        new = {(epoch, serial) for serial in range(first, first + more + 1)}
        assert revoked.add_span(epoch, first, first + more) == (not new <= plain)
        plain |= new
    for epoch in range(4):
        for serial in range(40):
            assert ((epoch, serial) in revoked) == ((epoch, serial) in plain)
    lines = revoked.lines()
    assert len(lines) == len(revoked)
    again = Revoked()
    again.load("\n".join(lines), oldest_epoch=0)
    assert again.lines() == lines


def test_ten_thousand_ended_sessions_are_one_interval():
    revoked = Revoked()
    serials = list(range(10_000))
    random.Random(1).shuffle(serials)
    for serial in serials:
        assert revoked.add(5, serial)
    assert revoked.lines() == ["5 0 9999"]
    assert not revoked.add(5, 17)


def test_the_number_of_intervals_is_bounded_on_the_safe_side():
    revoked = Revoked(spans_max=10)
    for serial in range(0, 2000, 2):
        revoked.add(5, serial)
        assert len(revoked) <= 10
    assert all((5, serial) in revoked for serial in range(0, 2000, 2))
    # The newest sessions that have not ended are still told apart.
    assert (5, 1997) not in revoked
    assert (5, 1) in revoked


def test_the_bound_holds_for_many_epochs_too():
    revoked = Revoked(spans_max=10)
    for epoch in range(30):
        revoked.add(epoch, 1)
    assert len(revoked) == 10
    assert (29, 1) in revoked
    assert (0, 1) not in revoked


def test_old_epochs_are_forgotten():
    revoked = Revoked()
    revoked.load("1 5 9\n3 1 1", oldest_epoch=0)
    revoked.forget(2)
    assert revoked.lines() == ["3 1 1"]
    assert len(revoked) == 1
    revoked.load("1 5 9\n4 1 1", oldest_epoch=2)
    assert revoked.lines() == ["3 1 1", "4 1 1"]


@pytest.mark.parametrize("line", ["", "1", "1 2", "1 9 8", "1 2 3 4", "x 1 1", "1 -1 2", "1 ٣ 3", "9" * 5000 + " 1 1"])
def test_broken_lines_are_skipped(line):
    revoked = Revoked()
    revoked.load(f"{line}\n7 1 2\n", oldest_epoch=0)
    assert revoked.lines() == ["7 1 2"]


# ---- states of requests

STATES = StateSeal(SEAL.derive(b"states"))
TICKETS = st.builds(
    Ticket,
    park=st.binary(min_size=8, max_size=8),
    principal=st.binary(min_size=8, max_size=8),
    call=st.binary(min_size=32, max_size=32),
    round=U32,
    issued=U32,
    expiry=U32,
)
TICKET = Ticket(b"p" * 8, principal_digest(""), b"c" * 32, 1, 100, 700)
STATE_SIZE = len(STATES.make(TICKET))


@given(TICKETS)
def test_a_state_says_what_it_was_made_of(ticket):
    state = STATES.make(ticket)
    assert STATES.open(state) == ticket
    assert len(state) == STATE_SIZE
    assert state.startswith(STATE_PREFIX)
    assert state.isascii()


@given(TICKETS, st.integers(0, STATE_SIZE - 1), st.characters())
def test_a_changed_character_makes_a_state_worthless(ticket, at, character):
    state = STATES.make(ticket)
    forged = state[:at] + character + state[at + 1 :]
    assert STATES.open(forged) == (ticket if forged == state else None)


@pytest.mark.parametrize("at", range(STATE_SIZE))
def test_a_state_that_was_cut_or_lengthened_is_worthless(at):
    state = STATES.make(TICKET)
    assert STATES.open(state[:at]) is None
    assert STATES.open(state + "A" * (at + 1)) is None


@pytest.mark.parametrize("text", ["", "mcpd.", "é" * STATE_SIZE, "mcpd." + "\ud800" * (STATE_SIZE - 5), "A" * 10**6])
def test_what_is_no_state_opens_to_nothing(text):
    assert STATES.open(text) is None


def test_a_state_is_worth_something_under_its_own_key_only():
    state = STATES.make(TICKET)
    assert StateSeal(SEAL.derive(b"others")).open(state) is None
    assert StateSeal(bytes(range(32))).open(state) is None, "the key that the other was derived from"
    assert SEAL.open(state) is None
    assert STATES.open(SEAL.make(claims())) is None


def test_derived_keys_are_told_apart_by_their_labels():
    keys = {SEAL.derive(label) for label in (b"", b"a", b"b", b"ab")}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {KEY_SIZE}
    assert SEAL.derive(b"a") == Seal(bytes(range(32))).derive(b"a")
