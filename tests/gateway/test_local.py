from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from mcpd.errors import INVALID_PARAMS, RpcError
from mcpd.gateway import local
from mcpd.protocol.calls import LOG_LEVELS, Call, Caller
from mcpd.protocol.capabilities import NOTHING
from mcpd.protocol.versions import MODERN, Version
from mcpd.types import SessionKey
from tests.gateway.fakes import FakeBackend, hello, no_ask, no_emit


def having(name: str, text: str) -> FakeBackend:
    backend = FakeBackend(name)
    backend.hello = hello(instructions=text)
    return backend


def test_instructions_are_merged_under_the_backends_names():
    backends = [having("a", " Use a. \n"), having("b", ""), having("c", "Use c.")]
    assert local.instructions(None, backends) == "## a\n\nUse a.\n\n## c\n\nUse c."
    assert local.instructions("First this.", backends).startswith("First this.\n\n## a\n\nUse a.")


def test_a_lone_backends_instructions_stand_as_they_are():
    assert local.instructions(None, [having("a", "Use a.")]) == "Use a."
    assert local.instructions("Mind.", [having("a", "Use a.")]) == "Mind.\n\nUse a."


def test_without_instructions_there_are_none():
    assert local.instructions(None, []) == ""
    assert local.instructions(None, [FakeBackend("away", takes=1.0), having("a", " \n")]) == ""
    assert local.instructions("Mind.", []) == "Mind."


def test_instructions_are_bounded():
    for count in (1, 3):
        backends = [having(f"b{n}", "x" * 100_000) for n in range(count)]
        assert len(local.instructions(None, backends)) == local.INSTRUCTIONS_MAX


def refused(function, *arguments) -> str:
    with pytest.raises(RpcError) as caught:
        function(*arguments)
    assert caught.value.code == INVALID_PARAMS
    return caught.value.message


BAD = (b"5", b"true", b"[]", b"{}", b'"\\ud800"', b'"\xff"', b"[" * 100_000)


def test_strings():
    assert local.string({"a": Raw(b'"x\\u00e9"')}, "a") == "xé"
    assert local.optional_string({}, "a") is None
    assert local.optional_string({"a": Raw(b"null")}, "a") is None
    assert refused(local.string, {}, "uri") == "params.uri is required"
    assert refused(local.string, {"a": Raw(b"null")}, "a") == "params.a is required"
    assert refused(local.string, {}, "name", "params.ref") == "params.ref.name is required"
    for raw in BAD:
        assert refused(local.string, {"a": Raw(raw)}, "a") == "params.a is a string"


def test_log_levels():
    for index, name in enumerate(LOG_LEVELS):
        assert local.log_level({"level": Raw(b'"%b"' % name.encode())}) == index
    assert "one of debug, info" in refused(local.log_level, {"level": Raw(b'"INFO"')})
    assert refused(local.log_level, {}) == "params.level is required"


def test_a_result_of_mcpds_own_has_the_form_of_the_callers_era():
    def call(version: Version) -> Call:
        caller = Caller(SessionKey("k"), "", version, NOTHING)
        return Call(caller, "completion/complete", b"{}", {}, no_emit, no_ask, lambda: None)

    own = b'{"completion":{"values":[]}}'
    assert local.complete(own, call(Version.V2025_11_25)) is own
    modern = msgspec.json.decode(local.complete(own, call(MODERN)))
    assert modern["resultType"] == "complete"
    assert modern["completion"] == {"values": []}


@pytest.mark.parametrize(
    ("raw", "urls"),
    [
        (None, ""),
        (b"{}", ""),
        (b'{"data":{"elicitations":[{"url":"https://a"},{"url":"https://b"}]}}', "https://a https://b"),
        (b'{"data":{"elicitations":[{"uri":"https://a"}]}}', ""),
        (b'{"data":{"elicitations":5}}', ""),
        (b'{"data":null}', ""),
    ],
)
def test_the_urls_of_an_error_for_clients_that_do_not_know_it(raw, urls):
    assert local.urls(RpcError(-32042, "open it", raw=raw)) == urls
