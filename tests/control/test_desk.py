from __future__ import annotations

import json
from http import HTTPStatus
from types import SimpleNamespace

import pytest

from mcpd.control.ask import STREAMED, Reply, Who
from mcpd.control.desk import Desk
from mcpd.control.refusal import Refusal
from mcpd.control.table import Operation
from mcpd.events import Events

WHO = Who(token="admin token", peer="::1")


class Request:
    """Keeps what it is answered."""

    def __init__(self) -> None:
        self.head = SimpleNamespace(method=b"GET", path=b"/v1/x", query=b"", headers={})
        self.body = b""
        self.answers = []

    @property
    def answered(self) -> bool:
        return bool(self.answers)

    def answer(self, status, headers, body=b""):
        self.answers.append((int(status), headers, body))


async def attend(work, changes=False, events=None):
    request = Request()
    request.head.method = b"POST" if changes else b"GET"
    operations = SimpleNamespace(gateway=SimpleNamespace(events=events or Events()))
    operation = Operation("POST" if changes else "GET", "/v1/x", work, "Works.", changes=changes)
    await Desk(operations).attend(request, WHO, lambda: (operation, {"name": "a"}))
    return request.answers


async def test_what_is_returned_becomes_json():
    async def work(operations, ask):
        return {"name": ask.path["name"], "who": ask.who.token}

    [(status, headers, body)] = await attend(work)
    assert (status, json.loads(body)) == (200, {"name": "a", "who": "admin token"})
    assert b"Content-Type: application/json\r\n" in headers
    assert b"ETag" not in headers


async def test_a_reply_has_its_own_status_and_headers():
    async def work(operations, ask):
        return Reply({"a": 1}, HTTPStatus.CREATED, b"Location: /v1/x/a\r\n", etag='"7"')

    [(status, headers, body)] = await attend(work)
    assert (status, body) == (201, b'{"a":1}')
    assert b"Location: /v1/x/a\r\n" in headers
    assert b'ETag: "7"\r\n' in headers


async def test_a_status_without_a_body_has_none():
    async def work(operations, ask):
        return Reply(status=HTTPStatus.NO_CONTENT)

    [(status, headers, body)] = await attend(work)
    assert (status, body) == (204, b"")
    assert b"Content-Type" not in headers


async def test_who_answers_on_a_stream_is_left_alone():
    async def work(operations, ask):
        ask.request.answer(200, b"", b"streamed")
        return STREAMED

    assert await attend(work) == [(200, b"", b"streamed")]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), Refusal(HTTPStatus.CONFLICT, "no", "not now")])
async def test_a_stream_that_fails_is_not_answered_twice(error):
    async def work(operations, ask):
        ask.request.answer(200, b"", b"streamed")
        raise error

    assert await attend(work) == [(200, b"", b"streamed")]


@pytest.mark.parametrize("changes", [True, False])
async def test_what_changes_something_is_logged_with_who_asked(changes, caplog):
    async def work(operations, ask):
        raise Refusal(HTTPStatus.CONFLICT, "no", "not now")

    caplog.set_level("INFO")
    events = Events()
    [(status, _, _)] = await attend(work, changes, events)
    assert status == 409
    told = [event.details() for event in events.read("0").events]
    about = {"by": "admin token from ::1", "method": "POST", "path": "/v1/x"}
    assert told == ([{**about, "refused": None}, {**about, "refused": "no"}] if changes else [])
    assert ("event=operation " in caplog.text) is changes
    assert ("event=operation_refused" in caplog.text) is changes
    assert ("method=b'POST' path=b'/v1/x' by='admin token' peer=::1" in caplog.text) is changes
