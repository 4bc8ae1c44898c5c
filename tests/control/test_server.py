from __future__ import annotations

import json
import os

import msgspec
import pytest
import trio
import trio.testing

from mcpd import __version__
from mcpd.config.model import Config
from mcpd.config.model import Control as ControlSettings
from mcpd.control.permission import Permission
from mcpd.control.server import LIMITS, Control
from mcpd.control.tags import configuration
from tests.control.parts import controlled
from tests.supervisor.processes import wait_until


async def ask(path, text: str) -> tuple[int, dict[str, str], dict]:
    """One request, byte for byte; status, headers and body of its answer."""
    stream = await trio.open_unix_socket(str(path))
    async with stream:
        await stream.send_all(text.replace("\n", "\r\n").encode())
        data = b"".join([chunk async for chunk in stream])
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, json.loads(body) if body else {}


def request(method: str, target: str, *headers: str, host: str = "localhost", body: str = "") -> str:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\n".join(lines) + "\n\n" + body


async def test_what_is_asked_for_is_answered(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        status, headers, body = await ask(path, request("GET", "/v1/status"))
        assert (status, body["status"]) == (200, "1 ready")
        assert headers["content-type"] == "application/json"
        assert headers["mcpd-version"] == __version__
        assert headers["cache-control"] == "no-store"
        status, _, body = await ask(path, request("HEAD", "/v1/status"))
        assert (status, body) == (200, {})
        status, _, body = await ask(path, request("POST", "/v1/reload?dry_run=1"))
        assert (status, body, ops.runner.asked) == (200, {"plan": {}}, [True])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "mcpd", "localhost:80", ""])
async def test_its_own_hosts_are_served(tmp_path, host):
    async with controlled(tmp_path) as (path, _):
        assert (await ask(path, request("GET", "/v1/status", host=host)))[0] == 200


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        (request("POST", "/v1/reload", host="evil.example"), 421, "wrong_host"),
        (request("POST", "/v1/reload", "Origin: http://localhost"), 403, "web_page"),
        (request("POST", "/v1/reload", "Origin: null"), 403, "web_page"),
        (request("POST", "/v1/reload", "Referer: http://localhost/x"), 403, "web_page"),
        (request("GET", "/v1/reload"), 405, "method_not_allowed"),
        (request("DELETE", "/v1/reload"), 405, "method_not_allowed"),
        (request("POST", "/v1/status"), 405, "method_not_allowed"),
        (request("POST", "/v1/reloads"), 404, "not_found"),
        (request("POST", "/v1/reload/"), 404, "not_found"),
        (request("POST", "/v1/reload?dry_run=maybe"), 400, "bad_request"),
        (request("POST", "/v1/reload?dry_run=1&dry_run=0"), 400, "bad_request"),
        (request("POST", "/v1/reload?dry-run=1"), 400, "bad_request"),
        (request("POST", "/v1/reload?dry_run"), 400, "bad_request"),
        (request("POST", "/v1/reload?%ff=1"), 400, "bad_request"),
        (request("POST", "/v1/reload", body="{}"), 400, "bad_request"),
    ],
)
async def test_what_is_wrong_does_nothing_and_is_said(tmp_path, text, status, code, caplog):
    async with controlled(tmp_path) as (path, ops):
        found, headers, body = await ask(path, text)
        assert (found, body["code"]) == (status, code)
        assert set(body) == {"code", "message", "remedy"}
        assert ("allow" in headers) is (status == 405)
        assert ops.runner.asked == []


class Nobody(Permission):
    """Permits nothing to anybody, so that it shows who asks for permission."""

    def may_change(self, who) -> bool:
        return False


async def test_who_may_only_look_changes_nothing_and_the_log_says_who_tried(tmp_path, caplog):
    async with controlled(tmp_path, permission=Nobody(0, None)) as (path, ops):
        status, _, body = await ask(path, request("POST", "/v1/reload"))
        assert (status, body["code"], ops.runner.asked) == (403, "not_permitted", [])
        assert f"uid={os.getuid()} pid={os.getpid()}" in caplog.text
        assert (await ask(path, request("GET", "/v1/status")))[0] == 200


async def test_a_bug_is_answered_and_logged(tmp_path, caplog):
    async with controlled(tmp_path) as (path, ops):
        ops.runner.error = RuntimeError("a bug")
        status, _, body = await ask(path, request("POST", "/v1/reload"))
        assert (status, body["code"]) == (500, "internal_error")
        assert "a bug" not in json.dumps(body)
        assert "a bug" in caplog.text
        assert (await ask(path, request("GET", "/v1/status")))[0] == 200


async def take(request) -> None:
    request.answer(200, b"", b'{"served": "mcp"}')


async def test_clients_of_mcp_are_served_by_who_serves_them(tmp_path):
    async with controlled(tmp_path, mcp=take) as (path, _):
        assert (await ask(path, request("POST", "/mcp", body="x")))[2] == {"served": "mcp"}
        assert (await ask(path, request("DELETE", "/mcp")))[2] == {"served": "mcp"}
        assert (await ask(path, request("POST", "/mcp/x")))[0] == 404
    async with controlled(tmp_path) as (path, _):
        assert (await ask(path, request("POST", "/mcp", body="x")))[0] == 404


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (request("POST", "/mcp", "Origin: http://localhost"), "web_page"),
        (request("GET", "/mcp", "Referer: http://localhost/x"), "web_page"),
        (request("POST", "/mcp", host="evil.example"), "wrong_host"),
    ],
)
async def test_no_web_page_gets_to_mcp(tmp_path, text, code, caplog):
    async with controlled(tmp_path, mcp=take) as (path, _):
        assert (await ask(path, text))[2]["code"] == code
        assert "event=operation_refused" in caplog.text


async def test_who_may_only_look_has_nothing_run(tmp_path, caplog):
    async with controlled(tmp_path, permission=Nobody(0, None), mcp=take) as (path, _):
        status, _, body = await ask(path, request("POST", "/mcp"))
        assert (status, body["code"]) == (403, "not_permitted")
        assert f"uid={os.getuid()} pid={os.getpid()}" in caplog.text


async def test_looking_may_be_for_operators_alone(tmp_path, caplog):
    permission = Nobody(0, None, "operators")
    async with controlled(tmp_path, permission=permission, mcp=take) as (path, _):
        for target in ("/v1/status", "/v1/servers", "/v1/nothing"):
            status, _, body = await ask(path, request("GET", target))
            assert (status, body["code"]) == (403, "not_permitted")
            assert f"uid={os.getuid()}" in caplog.text


def test_who_may_look_is_a_setting_that_applies_at_once():
    control = Control(None, Permission(0, None))
    control.configure(Config(control=ControlSettings(look="operators")))
    assert control.permission.look == "operators"
    control.configure(Config())
    assert control.permission.look == "everyone"


async def test_a_change_is_not_made_in_ignorance_of_another_one(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        _, headers, _ = await ask(path, request("GET", "/v1/servers"))
        assert headers["etag"]
        _, headers, _ = await ask(path, request("GET", "/v1/servers/b"))
        status, _, body = await ask(path, request("POST", "/v1/reload", f"If-Match: {headers['etag']}"))
        assert (status, body["code"], ops.runner.asked) == (412, "changed_meanwhile", []), "that is the server's"
        tag = configuration(ops, {})
        assert (await ask(path, request("POST", "/v1/reload", f"If-Match: {tag}")))[0] == 200
        assert (await ask(path, request("POST", "/v1/reload", "If-Match: *")))[0] == 200
        assert ops.runner.asked == [False, False]
        status, _, body = await ask(path, request("POST", "/v1/reload", "If-Match: nonsense"))
        assert (status, body["code"], len(ops.runner.asked)) == (412, "changed_meanwhile", 2)


async def test_what_changes_while_one_waits_for_its_turn_counts(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        tag = configuration(ops, {})
        answers = []

        async def reload():
            answers.append(await ask(path, request("POST", "/v1/reload", f"If-Match: {tag}")))

        async with trio.open_nursery() as nursery:
            await ops.runner.turn.acquire()
            nursery.start_soon(reload)
            await wait_until(lambda: ops.runner.turn.statistics().tasks_waiting == 1)
            ops.gateway.config = Config()
            ops.runner.turn.release()
        [(status, _, body)] = answers
        assert (status, body["code"], ops.runner.asked) == (412, "changed_meanwhile", [])


async def test_a_server_is_shown_under_its_name(tmp_path):
    async with controlled(tmp_path) as (path, _):
        assert (await ask(path, request("GET", "/v1/servers/b")))[2]["name"] == "b"
        assert (await ask(path, request("GET", "/v1/servers/%62")))[2]["name"] == "b"
        status, _, body = await ask(path, request("GET", "/v1/servers/c", "If-Match: *"))
        assert (status, body["code"]) == (404, "no_such_server")
        assert (await ask(path, request("GET", "/v1/servers/%zz")))[0] == 400
        assert (await ask(path, request("GET", "/v1/servers/")))[0] == 404


HASTY = msgspec.structs.replace(LIMITS, head_timeout=0.3, body_stall=0.3)


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("POST /v1/rel", 408, "timeout"),
        ("POST /v1/reload HTTP/1.1\nHost: mcpd\n", 408, "timeout"),
        ("POST /v1/reload HTTP/1.1\nHost: mcpd\nContent-Length: 10\n\n{", 408, "timeout"),
        ("POST /v1/reload HTTP/1.1\nHost: mcpd\nTransfer-Encoding: chunked\n\n5\n{", 408, "timeout"),
        ("POST /v1/reload HTTP/1.1\nHost: mcpd\nContent-Length: 5000000\n\n", 413, "too_large"),
        ("POST /v1/reload HTTP/1.1\nHost: mcpd\nX: " + "x" * 20_000 + "\n\n", 431, "too_large"),
        ("POST /v1/reload HTTP/1.1\nHost: mcpd\nContent-Length: -1\n\n", 400, "bad_request"),
        ("POST /v1/reload HTTP/1.1\nHost: mcpd\nContent-Length: 1\nTransfer-Encoding: chunked\n\n", 400, "bad_request"),
        ("nonsense\n\n", 400, "bad_request"),
        ("\0\1\2\3\n\n", 400, "bad_request"),
    ],
)
async def test_half_a_request_harms_nobody_else(tmp_path, text, status, code):
    async with controlled(tmp_path, limits=HASTY) as (path, ops):
        found, served = [], []

        async def send() -> None:
            found.append(await ask(path, text))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.01)
            served.append((await ask(path, request("GET", "/v1/status")))[0])
        [(got, _, body)] = found
        assert (got, body["code"], served) == (status, code, [200])
        assert set(body) == {"code", "message", "remedy"}
        assert ops.runner.asked == []
