"""Streamable HTTP as a client: every status by every content type, the table, and how long to wait."""

from __future__ import annotations

import itertools

import pytest

from mcpd.protocol.exchange_client import (
    DEFAULT_RETRY,
    RETRY_MAX,
    RETRY_MIN,
    STATUSES,
    TRANSITIONS,
    Event,
    Reply,
    State,
    classify,
    retry_delay,
    step,
)
from tests.protocol.tables import check_total, reachable

CONTENT_TYPES = {
    b"application/json": Reply.JSON,
    b"application/json; charset=utf-8": Reply.JSON,
    b"Application/JSON;charset=UTF-8": Reply.JSON,
    b" application/json ": Reply.JSON,
    b"text/event-stream": Reply.STREAM,
    b"text/event-stream; charset=utf-8": Reply.STREAM,
    b"TEXT/EVENT-STREAM;charset=utf-8": Reply.STREAM,
    b"": Reply.GARBAGE,
    b"text/html": Reply.GARBAGE,
    b"text/plain": Reply.GARBAGE,
    b"application/jsonp": Reply.GARBAGE,
    b"application/json-seq": Reply.GARBAGE,
    b"application/problem+json": Reply.GARBAGE,
    b"text/event-streams": Reply.GARBAGE,
    b";": Reply.GARBAGE,
}

# What a status means when it is no success: (without a session, with one).
MEANINGS = {
    301: (Reply.REDIRECT, Reply.REDIRECT),
    302: (Reply.REDIRECT, Reply.REDIRECT),
    303: (Reply.REDIRECT, Reply.REDIRECT),
    307: (Reply.REDIRECT, Reply.REDIRECT),
    308: (Reply.REDIRECT, Reply.REDIRECT),
    400: (Reply.NOT_HERE, Reply.FAILED),
    401: (Reply.UNAUTHORIZED, Reply.UNAUTHORIZED),
    403: (Reply.UNAUTHORIZED, Reply.UNAUTHORIZED),
    404: (Reply.NOT_HERE, Reply.SESSION_LOST),
    405: (Reply.NOT_HERE, Reply.NOT_HERE),
    410: (Reply.GONE, Reply.GONE),
    429: (Reply.BUSY, Reply.BUSY),
    503: (Reply.BUSY, Reply.BUSY),
}


@pytest.mark.parametrize("status", [*range(200, 300)])
def test_success(status):
    for content_type, meaning in CONTENT_TYPES.items():
        for has_session in (False, True):
            if meaning is Reply.JSON and status == 202:
                meaning = Reply.GARBAGE  # 202 to a request: accepted, and never answered
            assert classify(status, content_type, expects_response=True, has_session=has_session) is meaning
            found = classify(status, content_type, expects_response=False, has_session=has_session)
            assert found is Reply.ACCEPTED


@pytest.mark.parametrize("status", [*range(100, 200), *range(300, 600), 0, 600, 999])
def test_no_success(status):
    """Content type and what was sent change nothing; a session changes two."""
    meanings = MEANINGS.get(status, (Reply.FAILED, Reply.FAILED))
    for content_type, expects_response in itertools.product(CONTENT_TYPES, (False, True)):
        for has_session, meaning in enumerate(meanings):
            found = classify(status, content_type, expects_response=expects_response, has_session=bool(has_session))
            assert found is meaning


def test_the_table_of_statuses_is_the_one_above():
    assert {status for status in MEANINGS if status not in (400, 404)} == set(STATUSES)
    assert {reply for pair in MEANINGS.values() for reply in pair} | set(CONTENT_TYPES.values()) | {
        Reply.ACCEPTED
    } == set(Reply)


# ---- the table ---------------------------------------------------------------------------------------------


def test_table_is_total():
    check_total(TRANSITIONS, State, Event, step, KeyError)


def test_every_state_is_reachable():
    assert reachable(TRANSITIONS, State.POSTED) == set(State)


def test_from_everywhere_it_ends():
    """Whatever happens, an answer or a loss is still possible, and both are final."""
    for state in State:
        assert reachable(TRANSITIONS, state) & {State.ANSWERED, State.LOST}
    assert not TRANSITIONS[State.ANSWERED]
    assert not TRANSITIONS[State.LOST]


@pytest.mark.parametrize(
    ("course", "end"),
    [
        ("JSON", State.ANSWERED),
        ("STREAM RESPONSE", State.ANSWERED),
        ("STREAM END", State.LOST),
        ("STREAM END_RESUMABLE RETRY STREAM RESPONSE", State.ANSWERED),
        (
            "STREAM END_RESUMABLE RETRY END_RESUMABLE RETRY STREAM END_RESUMABLE RETRY STREAM RESPONSE",
            State.ANSWERED,
        ),
        ("STREAM END_RESUMABLE RETRY REFUSED", State.LOST),
        ("REFUSED", State.LOST),
        ("END", State.LOST),
    ],
)
def test_courses(course, end):
    state = State.POSTED
    for name in course.split():
        state = step(state, Event[name])
    assert state is end


def test_nothing_is_posted_twice():
    """No way leads back to POSTED: a request whose fate is unknown is never sent again."""
    for state in State:
        assert State.POSTED not in TRANSITIONS[state].values()


# ---- waiting -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry", "seconds"),
    [
        (None, DEFAULT_RETRY),
        (0, RETRY_MIN),
        (1, RETRY_MIN),
        (100, 0.1),
        (500, 0.5),
        (2000, 2.0),
        (30_000, RETRY_MAX),
        (30_001, RETRY_MAX),
        (999_999_999, RETRY_MAX),
        (10**400, RETRY_MAX),
    ],
)
def test_retry_delay(retry, seconds):
    assert retry_delay(retry) == seconds
