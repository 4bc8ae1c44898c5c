"""Ids, and to whom belongs what a backend says: attribution with nobody, one client and several."""

from __future__ import annotations

import itertools

import pytest

from mcpd.protocol.calls import Call, Caller
from mcpd.protocol.capabilities import ASKED_FOR, EVERYTHING, NOTHING, ClientCapability
from mcpd.protocol.jsonrpc import decode
from mcpd.protocol.methods import ASKING
from mcpd.protocol.peer import Peer, Pending
from mcpd.protocol.versions import Version
from mcpd.types import SessionKey

SAMPLING = ClientCapability.SAMPLING


def client(key, capabilities=EVERYTHING):
    return Caller(SessionKey(key), "", Version.V2025_11_25, capabilities)


def pending(caller, method="tools/call"):
    async def ask(method, params):
        raise AssertionError

    def emit(method, params):
        raise AssertionError

    return Pending(method, Call(caller, method, b"{}", {}, emit, ask, lambda: None))


def opened(peer, *requests):
    for request in requests:
        peer.open(request)
    return requests[-1]


def answer(id):
    return decode(b'{"jsonrpc":"2.0","id":%b,"result":{}}' % id)


# ---- ids ---------------------------------------------------------------------------------------------------


def test_ids_are_never_used_twice():
    peer = Peer()
    seen = set()
    for _ in range(100):
        request = Pending("tools/list", None)
        id = peer.open(request)
        assert request.id == id
        assert id not in seen
        seen.add(id)
        if id % 3:
            peer.close(request)
    assert len(peer) == 33


@pytest.mark.parametrize("spelling", [b"2", b'"2"', b"2.0", b'"2.0"'])
def test_an_answer_finds_its_request_however_the_id_is_spelled(spelling):
    peer = Peer()
    first, second = Pending("a", None), Pending("b", None)
    opened(peer, first, second)
    assert peer.find(spelling) is second
    assert peer.take(answer(spelling)) is second
    assert peer.take(answer(spelling)) is None  # a second answer to the same request
    assert len(peer) == 1


@pytest.mark.parametrize(
    "id",
    [
        *(b"0", b"3", b"-1", b"1e0", b"1.5", b'""', b'"x"', b"null", b"true", b"{}", b'"server-error"'),
        *(b"9" * 30, b"9" * 900, '"²"'.encode(), b'"%b"' % (b"9" * 5000)),
    ],
)
def test_foreign_ids_answer_nothing(id):
    peer = Peer()
    opened(peer, Pending("a", None), Pending("b", None))
    assert peer.find(id) is None
    assert peer.take(answer(id)) is None
    assert len(peer) == 2


def test_answers_without_id():
    peer = Peer()
    opened(peer, Pending("a", None))
    assert peer.take(decode(b'{"jsonrpc":"2.0","error":{"code":1}}')) is None
    assert peer.find(None) is None


def test_close_is_harmless_twice_and_makes_late_answers_nobodys():
    peer = Peer()
    request = Pending("a", None)
    peer.open(request)
    peer.close(request)
    peer.close(request)
    assert peer.take(answer(b"1")) is None
    other = Pending("b", None)
    peer.open(other)
    peer.close(request)  # its id is not the other's
    assert peer.take(answer(b"2")) is other


def test_closing_what_was_never_opened():
    peer = Peer()
    opened(peer, Pending("a", None))
    peer.close(Pending("b", None))
    assert len(peer) == 1


def test_take_all():
    peer = Peer()
    requests = [Pending("a", None), Pending("b", None)]
    opened(peer, *requests)
    assert peer.take_all() == requests
    assert (len(peer), peer.take_all()) == (0, [])
    assert peer.open(Pending("c", None)) == 3  # the numbering goes on


def test_what_a_request_started_may_outlive_it():
    peer = Peer()
    request = pending(client("a"))
    first = peer.open(request)
    assert peer.take(answer(b"1")) is request
    peer.bequeath(first, request)
    second = peer.open(request)
    assert peer.find(b"%d" % first) is peer.find(b"%d" % second) is request
    assert peer.take(answer(b"1")) is None, "only progress is inherited"
    assert len(peer) == 1
    peer.forget(first)
    peer.forget(first)
    assert peer.find(b"%d" % first) is None
    assert peer.find(b"%d" % second) is request


def test_what_stands_open_for_news_is_waited_for_by_nobody():
    peer = Peer()
    listening, waited_for = Pending("subscriptions/listen", None), Pending("tools/list", None)
    listening.standing = True
    opened(peer, listening, waited_for)
    assert len(peer) == 1
    assert peer.find(b"1") is listening
    assert peer.take_all() == [listening, waited_for], "it ends with the connection all the same"


# ---- whose question is it? ---------------------------------------------------------------------------------


@pytest.mark.parametrize("capability", ASKED_FOR.values())
def test_nobody_there(capability):
    peer = Peer()
    assert peer.whose_question() == (None, 0)
    opened(peer, Pending("tools/list", None))  # mcpd's own requests are nobody's
    assert peer.whose_question() == (None, 0)
    assert peer.whose_log() == (None, 0)


@pytest.mark.parametrize("capability", ASKED_FOR.values())
@pytest.mark.parametrize("method", sorted(ASKING))
def test_one_client(capability, method):
    peer = Peer()
    request = opened(peer, Pending("tools/list", None), pending(client("a"), method))
    assert peer.whose_question() == (request, 1)
    assert peer.whose_log() == (request, 1)
    peer.close(request)
    assert peer.whose_question() == (None, 0)
    assert peer.whose_log() == (None, 0)


def test_two_clients():
    peer = Peer()
    first = opened(peer, pending(client("a")))
    second = opened(peer, pending(client("b")))
    assert peer.whose_question() == (None, 2)
    assert peer.whose_log() == (None, 2)
    peer.close(second)
    assert peer.whose_question() == (first, 1)
    assert peer.whose_log() == (first, 1)


def test_the_same_client_twice_is_one():
    """The newest of its calls: the others have had their time to ask."""
    peer = Peer()
    same = client("a")
    opened(peer, pending(same), pending(same))
    # Its facts changed meanwhile: another object, the same client.
    newest = opened(peer, pending(client("a")))
    assert peer.whose_question() == (newest, 1)
    assert peer.whose_log() == (newest, 1)
    opened(peer, pending(client("b")))
    assert peer.whose_question() == (None, 2)


def test_who_did_not_declare_it_counts_all_the_same():
    """Otherwise a question that its call caused would be put to somebody else."""
    peer = Peer()
    unable = opened(peer, pending(client("a", NOTHING)))
    assert peer.whose_question() == (unable, 1)
    opened(peer, pending(client("b", SAMPLING)))
    assert peer.whose_question() == (None, 2)
    assert peer.whose_log() == (None, 2)


@pytest.mark.parametrize("method", ["completion/complete", "resources/subscribe", "resources/unsubscribe"])
def test_requests_that_cannot_ask_are_no_candidates(method):
    peer = Peer()
    other = opened(peer, pending(client("a"), method))
    assert peer.whose_question() == (None, 0)
    assert peer.whose_log() == (other, 1)
    asking = opened(peer, pending(client("b")))
    assert peer.whose_question() == (asking, 1)


def test_it_is_what_the_client_called_that_may_ask():
    """mcpd may ask for the outcome by another method."""
    peer = Peer()
    fetching = pending(client("a"))
    fetching.method = "tasks/result"
    opened(peer, fetching)
    assert peer.whose_question() == (fetching, 1)


def test_where_logs_are_asked_for_who_did_not_ask_is_no_candidate():
    peer = Peer()
    quiet, loud = client("a"), Caller(SessionKey("b"), "", Version.V2026_07_28, EVERYTHING, 3)
    opened(peer, pending(quiet))
    assert peer.whose_log(asked=True) == (None, 0)
    wants = opened(peer, pending(loud))
    assert peer.whose_log(asked=True) == (wants, 1)
    assert peer.whose_log() == (None, 2)


def test_order_does_not_matter():
    """Whatever the order in which calls begin, two clients are two."""
    for order in itertools.permutations("aab"):
        peer = Peer()
        opened(peer, *(pending(client(key)) for key in order))
        assert peer.whose_question() == (None, 2)
        assert peer.whose_log() == (None, 2)
