from __future__ import annotations

from http import HTTPStatus

import msgspec

from mcpd.config.faults import ConfigErrors
from mcpd.control.refusal import Refusal, explain, invalid_configuration
from mcpd.errors import ConfigError


def test_it_has_a_word_for_programs_and_words_for_people():
    refusal = Refusal(HTTPStatus.NOT_FOUND, "not_found", "there is none", "make one", details={"more": 1})
    assert msgspec.json.decode(refusal.encode()) == {
        "code": "not_found",
        "message": "there is none",
        "remedy": "make one",
        "more": 1,
    }


def test_every_fault_of_a_configuration_has_its_place():
    first = ConfigError("wrong", file="f", line=3, path="a.b", remedy="mend it")
    refusal = invalid_configuration(ConfigErrors([first, ConfigError("bad")]))
    body = msgspec.json.decode(refusal.encode())
    assert (refusal.status, body["code"]) == (422, "invalid_configuration")
    assert "2 faults" in body["message"]
    assert body["errors"] == [
        {"file": "f", "line": 3, "path": "a.b", "message": "wrong", "remedy": "mend it"},
        {"file": "", "line": None, "path": "", "message": "bad", "remedy": ""},
    ]
    assert "1 fault," in msgspec.json.decode(invalid_configuration(first).encode())["message"]


def test_what_http_refuses_has_the_same_form():
    for status, code in ((400, "bad_request"), (408, "timeout"), (431, "too_large"), (503, "busy"), (505, "refused")):
        body = msgspec.json.decode(explain(status, "why"))
        assert (body["code"], body["message"]) == (code, "why")
        assert set(body) == {"code", "message", "remedy"}
