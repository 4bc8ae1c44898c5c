from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import trio

from mcpd.control.remote import LOG_EVERY, OFFERED, Remote
from mcpd.control.token import Token
from tests.control.parts import operations
from tests.control.test_desk import Request

SECRET = "a-token-that-nobody-guesses"
BODY = b'{"mcpServers": {"x": {"command": "y"}}}'
JSON = {b"content-type": b"application/json"}


async def ask(remote, method, path, body=b"", *, token=SECRET, repeated=(), peer="127.0.0.1"):
    request = Request()
    given = {**JSON, **({b"authorization": b"Bearer " + token.encode()} if token is not None else {})}
    request.head = SimpleNamespace(method=method, path=path, query=b"", headers=given, repeated=frozenset(repeated))
    request.body, request.peer, request.peer_port = body, peer, 4711
    await remote.handle(request)
    [(status, _, text)] = request.answers
    return status, json.loads(text)


def remote(directory):
    ops = operations(directory)
    return Remote(ops, Token(SECRET, "/the/file")), ops.runner


async def test_servers_are_added_and_removed_by_who_has_the_token(tmp_path):
    it, runner = remote(tmp_path)
    status, _ = await ask(it, b"POST", b"/servers", BODY)
    assert status == 200
    status, _ = await ask(it, b"POST", b"/servers/", BODY)
    assert status == 200
    status, _ = await ask(it, b"DELETE", b"/servers/b")
    assert status == 200
    assert len(runner.changes) == 3
    assert all("admin token from 127.0.0.1:4711" in str(each) for each in runner.changes)


CHANGES = [(b"POST", b"/servers", BODY), (b"DELETE", b"/servers/b", b"")]
STRANGERS = [(None, ()), ("another", ()), ("", ()), (SECRET, [b"authorization"])]


def test_every_change_is_tried_by_who_may_not():
    assert {(method.decode(), "/v1" + path.decode().replace("/b", "/{name}")) for method, path, _ in CHANGES} == OFFERED


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
@pytest.mark.parametrize(("token", "repeated"), STRANGERS)
async def test_without_it_nothing_is_done_and_the_log_says_who_tried(
    method, path, body, token, repeated, tmp_path, caplog
):
    it, runner = remote(tmp_path)
    status, answer = await ask(it, method, path, body, token=token, repeated=repeated)
    assert (status, answer["code"]) == (401, "unauthorized")
    assert "/the/file" in answer["remedy"]
    assert runner.changes == []
    assert f"event=operation_refused method={method!r} path={path!r} by='nobody' peer=127.0.0.1:4711" in caplog.text
    assert SECRET not in caplog.text


async def test_who_tries_again_and_again_is_counted_and_hides_nobody(tmp_path, caplog, autojump_clock):
    it, _ = remote(tmp_path)
    for _ in range(13):
        await ask(it, *CHANGES[0], token="another")
    await ask(it, *CHANGES[1], token="another", peer="::1")
    assert caplog.text.count("event=operation_refused") == 2, "not as often as it is tried"
    assert caplog.text.count("suppressed=0") == 2
    assert "peer=::1:4711" in caplog.text
    caplog.clear()
    await trio.sleep(LOG_EVERY)
    await ask(it, *CHANGES[1], token="another")
    assert "method=b'DELETE' path=b'/servers/b' by='nobody' peer=127.0.0.1:4711" in caplog.text
    assert "suppressed=12" in caplog.text


async def test_what_they_send_neither_fills_nor_forges_the_log(tmp_path, caplog):
    it, _ = remote(tmp_path)
    await ask(it, b"DELETE" * 1000, b"/servers/\nevent=ready" + b"x" * 9000, token="another")
    [line] = caplog.text.splitlines()
    assert len(line) < 600
    assert r"\nevent=ready" in line


async def test_of_the_tables_only_that_is_there(tmp_path):
    it, runner = remote(tmp_path)
    for method, path in ((b"POST", b"/servers/b/disable"), (b"GET", b"/servers/b"), (b"POST", b"/reload")):
        status, answer = await ask(it, method, path)
        assert (status, answer["code"]) == (404, "not_found")
    assert runner.asked == runner.changes == []


async def test_a_body_says_that_it_is_json(tmp_path):
    it, runner = remote(tmp_path)
    request = Request()
    request.head = SimpleNamespace(
        method=b"POST",
        path=b"/servers",
        query=b"",
        headers={b"content-type": b"text/plain", b"authorization": b"Bearer " + SECRET.encode()},
        repeated=frozenset(),
    )
    request.body, request.peer, request.peer_port = BODY, "::1", 1
    await it.handle(request)
    [(status, _, text)] = request.answers
    assert (status, json.loads(text)["code"]) == (415, "not_json")
    assert runner.changes == []
