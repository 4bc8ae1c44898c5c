from __future__ import annotations

from mcpd.backends.resumption import Position
from mcpd.protocol.exchange_client import DEFAULT_RETRY, RETRY_MAX
from mcpd.protocol.sse import Event


def test_ids_and_retry_times_are_noted():
    at = Position()
    at.note(Event("message", b"", id="1", retry=200))
    at.note(Event("message", b"x"))
    assert (at.last_id, at.retry) == ("1", 200)
    at.note(Event("message", b"", id="2", retry=0))
    assert (at.last_id, at.retry) == ("2", 0)
    at.note(Event("message", b"x", id=""))
    assert at.last_id == "2"


def test_pauses_grow_while_nothing_comes():
    at = Position()
    pauses = [at.pause() for _ in range(40)]
    assert pauses[:4] == [DEFAULT_RETRY, 2, 4, 8]
    assert pauses[-1] == RETRY_MAX
    at.note(Event("message", b"news"))
    assert at.pause() == DEFAULT_RETRY


def test_a_server_that_lets_go_again_and_again_is_polled_as_it_asked():
    at = Position()
    for number in range(5):
        at.note(Event("message", b"", id=str(number), retry=200))
        assert at.pause() == 0.2
    at.note(Event("message", b"", id="4"))
    assert at.pause() == 0.4, "the same place again is no news"
    assert 0 < Position().pause() <= RETRY_MAX
