from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest

from mcpd.backends.replies import (
    NotHere,
    NotUnderstood,
    answered_by_server,
    answers,
    dispose,
    error_in,
    messages_of,
    named,
    redirect_target,
    refusal,
    retry_after,
)
from mcpd.backends.waiter import Waiter
from mcpd.errors import (
    BackendCrashed,
    BackendMisbehaved,
    BackendUnavailable,
    ConnectFailed,
    ConnectionBroken,
    LimitExceeded,
    ProtocolError,
)
from mcpd.protocol import jsonrpc
from mcpd.protocol.exchange_client import Reply as Kind
from mcpd.protocol.exchange_client import classify
from mcpd.wire.http_url import parse_url


class Reply:
    """As much of an HTTP answer as is looked at."""

    def __init__(self, status: int = 200, body: bytes = b"", error: Exception | None = None, **headers: str) -> None:
        self.status = status
        self.headers = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        self.closed = False
        self.was_read = False
        self._body = body
        self._error = error

    async def read(self, limit: int) -> bytes:
        self.was_read = True
        if self._error is not None:
            raise self._error
        return self._body

    def close(self) -> None:
        self.closed = True


def waiter(id: int = 7) -> Waiter:
    made = Waiter("tools/call", None, idle=1, final=1, on_expire=print)
    made.id = id
    return made


def test_messages_of():
    one = b'{"jsonrpc":"2.0","method":"a"}'
    assert [m.method for m in messages_of(one)] == ["a"]
    assert [m.method for m in messages_of(b"\xef\xbb\xbf" + one)] == ["a"]
    assert [m.method for m in messages_of(b" [" + one + b"," + one + b"]")] == ["a", "a"]
    for junk in (b"", b"<html>", b"42", b'"text"', b"{}"):
        with pytest.raises(ProtocolError):
            messages_of(junk)


@pytest.mark.parametrize(
    ("id", "result", "error"),
    [
        ("7", True, True),
        ('"7"', True, True),
        ("7.0", True, True),
        ("8", False, False),
        ("null", False, True),
        ('"server-error"', False, True),
        (None, False, True),
    ],
)
async def test_answers(id, result, error):
    for member, expected in (("result", result), ("error", error)):
        text = '{"jsonrpc":"2.0",' + (f'"id":{id},' if id is not None else "") + f'"{member}":{{}}}}'
        assert answers(jsonrpc.decode(text.encode()), waiter()) is expected


async def test_error_in():
    error = {"code": -32600, "message": "no"}
    for id in (7, None, "server-error"):
        found = error_in(json.dumps({"jsonrpc": "2.0", "id": id, "error": error}).encode(), waiter())
        assert found is not None
    for body in (
        b"",
        b"<html>",
        b'{"jsonrpc":"2.0","id":7,"result":{}}',
        b'{"jsonrpc":"2.0","id":8,"error":{}}',
        b"[]",
    ):
        assert error_in(body, waiter()) is None


async def test_dispose():
    reply = Reply(body=b"text")
    assert await dispose(reply) == b"text"
    assert reply.closed
    for error in (ConnectionBroken("x"), LimitExceeded("x")):
        broken = Reply(error=error)
        assert await dispose(broken) == b""
        assert broken.closed
    stream = Reply(content_type="Text/Event-Stream; charset=utf-8")
    assert await dispose(stream) == b""
    assert (stream.closed, stream.was_read) == (True, False), "a stream may never end"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/mcp/", "http://h.test:81/mcp/"),
        ("mcp/", "http://h.test:81/a/mcp/"),
        ("http://h.test:81/x?y=1", "http://h.test:81/x?y=1"),
        ("//h.test:81/x", "http://h.test:81/x"),
        ("https://h.test:81/mcp", None),
        ("http://h.test:82/mcp", None),
        ("http://other.test:81/mcp", None),
        ("//other.test/mcp", None),
        ("http://user:pw@h.test:81/", None),
        ("ftp://h.test:81/", None),
        ("http://h.test:99999/", None),
        ("", None),
    ],
)
def test_redirects_stay_inside_the_origin(location, target):
    url = parse_url("http://h.test:81/a/b")
    for status in (301, 302, 307, 308):
        found = redirect_target(url, Reply(status, location=location))
        assert (None if found is None else str(found)) == target
    assert redirect_target(url, Reply(303, location="/mcp/")) is None
    assert redirect_target(url, Reply(200, location="/mcp/")) is None


def test_retry_after():
    assert retry_after(Reply()) is None
    assert retry_after(Reply(retry_after="120")) == 120
    assert retry_after(Reply(retry_after="9" * 30)) == 999_999_999
    assert retry_after(Reply(retry_after="-5")) is None
    assert retry_after(Reply(retry_after="soon")) is None
    assert retry_after(Reply(retry_after="x" * 1000)) is None
    later = retry_after(Reply(retry_after=formatdate(time.time() + 60, usegmt=True)))
    assert later is not None
    assert 55 < later <= 60
    assert retry_after(Reply(retry_after=formatdate(0, usegmt=True))) == 0


def test_named():
    assert type(named("b", ConnectFailed("x"))) is BackendUnavailable
    assert type(named("b", ConnectionBroken("x"))) is BackendCrashed
    assert type(named("b", LimitExceeded("x"))) is BackendMisbehaved
    assert "backend 'b'" in str(named("b", ConnectionBroken("x")))
    assert issubclass(NotHere, BackendUnavailable)


def refused(method: str, status: int, **headers: str) -> Exception:
    reply = Reply(status, **headers)
    kind = classify(status, reply.headers.get(b"content-type", b""), expects_response=True, has_session=False)
    return refusal("b", method, kind, reply)


@pytest.mark.parametrize(
    ("method", "status", "kind", "words"),
    [
        ("tools/call", 401, BackendUnavailable, "HTTP 401: it wants credentials (set servers.b.headers)"),
        ("tools/call", 403, BackendUnavailable, "it wants credentials"),
        ("tools/call", 410, BackendUnavailable, "gone for good (remove it)"),
        ("tools/call", 429, BackendUnavailable, "it is busy (try later)"),
        ("tools/call", 302, BackendUnavailable, "redirects to another origin (set servers.b.url"),
        ("tools/call", 202, BackendMisbehaved, "HTTP 202 with nothing is not an answer (check servers.b.url)"),
        ("tools/call", 404, BackendUnavailable, "HTTP 404 to tools/call (see the server's own log)"),
        ("tools/call", 500, BackendUnavailable, "HTTP 500 to tools/call"),
        ("initialize", 404, NotHere, "HTTP 404 (check servers.b.url)"),
        ("initialize", 405, NotHere, "HTTP 405"),
        ("initialize", 400, NotHere, "HTTP 400"),
        ("initialize", 500, BackendUnavailable, "HTTP 500 to initialize"),
        ("server/discover", 401, BackendUnavailable, "it wants credentials"),
        ("server/discover", 405, NotUnderstood, "HTTP 405 to server/discover"),
        ("server/discover", 500, NotUnderstood, "HTTP 500 to server/discover"),
        ("server/discover", 503, BackendUnavailable, "it is busy"),
        ("server/discover", 502, BackendUnavailable, "HTTP 502 to server/discover"),
    ],
)
def test_what_a_refusal_means(method, status, kind, words):
    error = refused(method, status)
    assert type(error) is kind
    assert words in str(error)


def test_refusals_say_when_to_come_back_and_whether_it_helps():
    assert refused("tools/call", 503, retry_after="7").retry_after == 7
    assert refused("tools/call", 500, retry_after="7").retry_after == 7
    assert refused("tools/call", 401).needs_operator
    assert not refused("tools/call", 404).needs_operator
    assert refused("server/discover", 404).sure
    assert not refused("server/discover", 501).sure


@pytest.mark.parametrize(
    ("method", "status", "heard"),
    [
        ("tools/call", 400, True),
        ("tools/call", 403, True),
        ("tools/call", 503, True),
        ("initialize", 400, True),
        ("initialize", 500, True),
        ("initialize", 404, False),
        ("initialize", 401, False),
        ("initialize", 503, False),
        ("server/discover", 400, True),
        ("server/discover", 404, True),
        ("server/discover", 500, True),
        ("server/discover", 401, False),
        ("server/discover", 403, False),
        ("server/discover", 429, False),
        ("server/discover", 502, False),
        ("server/discover", 503, False),
    ],
)
def test_whose_word_an_error_in_a_refusal_is(method, status, heard):
    kind = classify(status, b"application/json", expects_response=True, has_session=False)
    assert isinstance(kind, Kind)
    assert answered_by_server(method, kind, status) == heard
