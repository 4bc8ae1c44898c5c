from __future__ import annotations

import h11
import pytest

from mcpd.errors import ConnectionBroken, LimitExceeded
from mcpd.wire.http_head import Memo
from mcpd.wire.http_limits import HttpLimits
from mcpd.wire.http_reader import RequestReader
from mcpd.wire.websocket_handshake import AnswerReader, HandshakeRefused, UpgradeRefused, read_upgrade

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="

LINES = {
    "host": b"Host: localhost:8080",
    "upgrade": b"Upgrade: websocket",
    "connection": b"Connection: Upgrade",
    "key": b"Sec-WebSocket-Key: " + KEY,
    "version": b"Sec-WebSocket-Version: 13",
}


def head_of(*more: bytes, first: bytes = b"GET /ws HTTP/1.1", **instead: bytes | None):
    lines = [line for line in {**LINES, **instead}.values() if line is not None]
    reader = RequestReader(HttpLimits(), Memo(100))
    reader.feed(b"\r\n".join([first, *lines, *more]) + b"\r\n\r\n")
    whole = reader.next()
    assert whole is not None
    return whole[0]


def test_a_request_without_subprotocol():
    upgrade = read_upgrade(head_of(), "mcp")
    assert (upgrade.key, upgrade.subprotocol) == (KEY, None)


@pytest.mark.parametrize(
    "instead",
    [
        {"upgrade": b"Upgrade: WebSocket"},
        {"upgrade": b"Upgrade: h2c, websocket"},
        {"connection": b"Connection: keep-alive, upgrade"},
        {"connection": b"Connection: keep-alive\r\nConnection: Upgrade"},
    ],
)
def test_tokens_are_found_as_http_has_them(instead):
    read_upgrade(head_of(**instead), "mcp")


@pytest.mark.parametrize("offer", [b"mcp", b"x, mcp", b"x,mcp,y", b"x\r\nSec-WebSocket-Protocol: mcp"])
def test_the_subprotocol_is_chosen_among_what_is_offered(offer):
    assert read_upgrade(head_of(b"Sec-WebSocket-Protocol: " + offer), "mcp").subprotocol == "mcp"


@pytest.mark.parametrize(
    ("status", "word", "instead"),
    [
        (426, "Upgrade", {"upgrade": None}),
        (426, "Upgrade", {"connection": None}),
        (426, "Upgrade", {"upgrade": b"Upgrade: h2c"}),
        (426, "Upgrade", {"connection": b"Connection: keep-alive"}),
        (426, "Upgrade", {"first": b"GET /ws HTTP/1.0"}),
        (426, "13", {"version": None}),
        (426, "13", {"version": b"Sec-WebSocket-Version: 8"}),
        (426, "13", {"version": b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13"}),
        (400, "Key", {"key": None}),
        (400, "Key", {"key": b"Sec-WebSocket-Key: "}),
        (400, "Key", {"key": b"Sec-WebSocket-Key: c2hvcnQ="}),
        (400, "Key", {"key": b"Sec-WebSocket-Key: " + KEY[:-2]}),
        (400, "Key", {"key": b"Sec-WebSocket-Key: " + b"!" * 24}),
        (400, "Key", {"key": b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Key: %b" % (KEY, KEY)}),
        (405, "GET", {"first": b"DELETE /ws HTTP/1.1"}),
    ],
)
def test_other_requests_are_refused_with_the_reason(status, word, instead):
    with pytest.raises(UpgradeRefused, match=word) as caught:
        read_upgrade(head_of(**instead), "mcp")
    assert caught.value.status == status
    if status == 426:
        assert b"Upgrade: websocket\r\nConnection: Upgrade\r\n" in caught.value.headers
        assert (b"Sec-WebSocket-Version: 13\r\n" in caught.value.headers) is (word == "13")


@pytest.mark.parametrize("offer", [b"", b"MCP", b"xmcp, mcp2"])
def test_who_offers_subprotocols_must_offer_ours(offer):
    with pytest.raises(UpgradeRefused, match="'mcp'") as caught:
        read_upgrade(head_of(b"Sec-WebSocket-Protocol: " + offer), "mcp")
    assert caught.value.status == 400


def test_a_body_is_refused():
    reader = RequestReader(HttpLimits(), Memo(100))
    reader.feed(b"\r\n".join([b"GET /ws HTTP/1.1", *LINES.values(), b"Content-Length: 2", b"", b"xx"]))
    whole = reader.next()
    assert whole is not None
    with pytest.raises(UpgradeRefused, match="body"):
        read_upgrade(whole[0], "mcp")
    assert read_upgrade(head_of(b"Content-Length: 0"), "mcp").key == KEY


def test_the_library_sees_a_request_of_ours():
    head = head_of(
        b"Sec-WebSocket-Protocol: a, mcp", b"Cookie: secret", b"Sec-WebSocket-Extensions: permessage-deflate"
    )
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(read_upgrade(head, "mcp").replay())
    event = parser.next_event()
    assert isinstance(event, h11.Request)
    assert dict(event.headers) == {
        b"host": b"localhost",
        b"upgrade": b"websocket",
        b"connection": b"Upgrade",
        b"sec-websocket-version": b"13",
        b"sec-websocket-key": KEY,
        b"sec-websocket-protocol": b"mcp",
    }
    assert b"protocol" not in read_upgrade(head_of(), "mcp").replay().lower()


# ---- the client's side -------------------------------------------------------------------------------------

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(
    "before", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"]
)
def test_the_head_of_a_101_is_returned_alone(step, before):
    data = before + ACCEPTED
    reader = AnswerReader(1000)
    found = [head for at in range(0, len(data), step) if (head := reader.feed(data[at : at + step])) is not None]
    assert found == [ACCEPTED]
    assert reader.rest == b""


def test_what_follows_a_101_is_kept():
    reader = AnswerReader(len(ACCEPTED))
    assert reader.feed(ACCEPTED + b"\x81\x02hi" * 100) == ACCEPTED
    assert reader.rest == b"\x81\x02hi" * 100


def test_any_other_status_is_an_error_that_has_it():
    with pytest.raises(HandshakeRefused, match="HTTP 401") as caught:
        AnswerReader(1000).feed(b"HTTP/1.1 401 No\r\nContent-Length: 9999999\r\nRetry-After: 7\r\n\r\nbody")
    assert caught.value.status == 401
    assert caught.value.headers[b"retry-after"] == b"7"


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH\r\n\r\n", b"\x15\x03\x01\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_http(data):
    with pytest.raises(ConnectionBroken, match="not an HTTP answer"):
        AnswerReader(1000).feed(data)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 101 Sw", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_the_end_before_an_answer(begun):
    reader = AnswerReader(1000)
    if begun:
        assert reader.feed(begun) is None
    with pytest.raises(ConnectionBroken, match="ended before"):
        reader.feed(b"")


@pytest.mark.parametrize(
    "data",
    [
        ACCEPTED[:-2] + b"X: " + b"x" * 1000 + b"\r\n\r\n",
        b"HTTP/1.1 101 X\r\nX: " + b"x" * 1000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40,
    ],
)
def test_heads_have_a_limit(data):
    with pytest.raises(LimitExceeded, match="1000 bytes"):
        AnswerReader(1000).feed(data)
