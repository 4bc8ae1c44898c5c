"""Capabilities in both directions, at every version."""

from __future__ import annotations

import itertools
import json

import pytest

from mcpd.protocol.capabilities import (
    ASKED_FOR,
    EVERYTHING,
    NOTHING,
    ClientCapability,
    ServerCapabilities,
    declares,
    encode_client_capabilities,
    encode_gateway_capabilities,
    parse_client_capabilities,
    parse_server_capabilities,
)
from mcpd.protocol.methods import METHODS
from mcpd.protocol.versions import HANDSHAKE, MODERN, Version

C = ClientCapability
FORM, URL = C.ELICITATION_FORM, C.ELICITATION_URL
ALL_FLAGS = [sum(flags, NOTHING) for count in range(8) for flags in itertools.combinations(C, count)]


def known_at(version: Version) -> ClientCapability:
    """What a version has words for."""
    flags = C.ROOTS | C.SAMPLING
    if version < MODERN:
        flags |= C.ROOTS_LIST_CHANGED
    if version >= Version.V2025_06_18:
        flags |= FORM
    if version >= Version.V2025_11_25:
        flags |= URL | C.SAMPLING_TOOLS | C.SAMPLING_CONTEXT
    return flags


def meant(flags: ClientCapability) -> ClientCapability:
    """Flags without those that mean nothing without their parent."""
    if not flags & C.ROOTS:
        flags &= ~C.ROOTS_LIST_CHANGED
    if not flags & C.SAMPLING:
        flags &= ~(C.SAMPLING_TOOLS | C.SAMPLING_CONTEXT)
    return flags


def test_everything_is_all_flags():
    assert sum(C, NOTHING) == EVERYTHING


def test_flags_are_what_sealed_session_ids_hold():
    """Session ids outlive the daemon: a flag may be added, never renumbered."""
    assert {flag.name: flag.value for flag in C} == {
        "ROOTS": 1,
        "ROOTS_LIST_CHANGED": 2,
        "SAMPLING": 4,
        "SAMPLING_TOOLS": 8,
        "SAMPLING_CONTEXT": 16,
        "ELICITATION_FORM": 32,
        "ELICITATION_URL": 64,
    }


@pytest.mark.parametrize("version", Version)
def test_client_capabilities_there_and_back(version):
    """What a client declared arrives at a backend of the version, as far as the version has words for it."""
    assert len(ALL_FLAGS) == 128
    for flags in ALL_FLAGS:
        encoded = encode_client_capabilities(flags, version)
        assert parse_client_capabilities(encoded) == meant(flags & known_at(version)), (flags, encoded)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (Version.V2024_11_05, {"roots": {"listChanged": True}, "sampling": {}}),
        (Version.V2025_03_26, {"roots": {"listChanged": True}, "sampling": {}}),
        (Version.V2025_06_18, {"roots": {"listChanged": True}, "sampling": {}, "elicitation": {}}),
        (
            Version.V2025_11_25,
            {
                "roots": {"listChanged": True},
                "sampling": {"context": {}, "tools": {}},
                "elicitation": {"form": {}, "url": {}},
            },
        ),
        (
            MODERN,
            {
                "roots": {},
                "sampling": {"context": {}, "tools": {}},
                "elicitation": {"form": {}, "url": {}},
            },
        ),
    ],
)
def test_everything_in_the_words_of_each_version(version, expected):
    assert json.loads(encode_client_capabilities(EVERYTHING, version)) == expected
    assert encode_client_capabilities(NOTHING, version) == b"{}"


def test_url_only_is_not_said_to_versions_that_know_forms_only():
    assert encode_client_capabilities(URL, Version.V2025_06_18) == b"{}"
    assert encode_client_capabilities(URL, Version.V2025_11_25) == b'{"elicitation":{"url":{}}}'


@pytest.mark.parametrize("version", Version)
def test_extensions_are_told_to_modern_servers_as_they_are(version):
    text = b'{"a.b/c":{"n": 1.50}}'
    encoded = encode_client_capabilities(C.SAMPLING, version, text)
    assert (b'"extensions":' + text in encoded) is (b"extensions" in encoded) is (version >= MODERN)
    assert parse_client_capabilities(encoded) == C.SAMPLING
    assert b"extensions" not in encode_client_capabilities(C.SAMPLING, version)
    assert encode_client_capabilities(NOTHING, MODERN, b"{}") == b'{"extensions":{}}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, NOTHING),
        (b"null", NOTHING),
        (b"[]", NOTHING),
        (b"{}", NOTHING),
        (b'{"experimental":{"roots":{}},"tasks":{},"x":1}', NOTHING),
        (b'{"roots":{}}', C.ROOTS),
        (b'{"roots":{"listChanged":false}}', C.ROOTS),
        (b'{"roots":{"listChanged":"true"}}', C.ROOTS),
        (b'{"roots" : { "listChanged" : true } }', C.ROOTS | C.ROOTS_LIST_CHANGED),
        (b'{"sampling":{}}', C.SAMPLING),
        (b'{"sampling":{"tools":{}}}', C.SAMPLING | C.SAMPLING_TOOLS),
        (b'{"sampling":{"context":{},"tools":null}}', C.SAMPLING | C.SAMPLING_CONTEXT),
        (b'{"elicitation":{}}', FORM),
        (b'{"elicitation":{"form":{}}}', FORM),
        (b'{"elicitation":{"url":{}}}', URL),
        (b'{"elicitation":{"form":{},"url":{}}}', FORM | URL),
        (b'{"elicitation":{"form":null,"url":{}}}', URL),
        (b'{"elicitation":{"url":null}}', FORM),
        (b'{"elicitation":{"other":{}}}', FORM),
        # Serializers that write what is not there.
        (b'{"roots":null,"sampling":null,"elicitation":null}', NOTHING),
        (b'{"roots":false,"sampling": false}', NOTHING),
        (rb'{"sampling":{},"experimental":{"x":"\ud83d"}}', C.SAMPLING),
    ],
)
def test_parse_client_capabilities(text, expected):
    assert parse_client_capabilities(text) == expected


def test_every_question_needs_something():
    questions = {method.name for method in METHODS if method.input}
    assert set(ASKED_FOR) == questions
    for method in METHODS:
        if method.input:
            alone = parse_client_capabilities(b'{"%b":{}}' % (method.client_needs or "").encode())
            assert alone & ASKED_FOR[method.name]
            assert not NOTHING & ASKED_FOR[method.name]


FULL = (
    b'{"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},'
    b'"prompts":{"listChanged":true},"completions":{},"logging":{},"tasks":{},"experimental":{}}'
)


FLAGS = tuple(name for name in ServerCapabilities.__struct_fields__ if name != "extensions")


@pytest.mark.parametrize("version", Version)
def test_full_server(version):
    assert parse_server_capabilities(FULL, version) == ServerCapabilities(**dict.fromkeys(FLAGS, True))


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("text", [None, b"null", b"[]", b"{}", b'{"tools":null,"resources":null,"logging":false}'])
def test_empty_server(version, text):
    assert parse_server_capabilities(text, version) == ServerCapabilities()


@pytest.mark.parametrize(
    ("text", "true"),
    [
        (b'{"tools":{}}', {"tools"}),
        (b'{"tools":{"listChanged":false}}', {"tools"}),
        (b'{"tools":{"listChanged":true}}', {"tools", "tools_list_changed"}),
        (b'{"resources":{}}', {"resources"}),
        (b'{"resources":{"subscribe":true}}', {"resources", "resources_subscribe"}),
        (b'{"resources":{"listChanged":true,"subscribe":null}}', {"resources", "resources_list_changed"}),
        (b'{"prompts":{"listChanged":true}}', {"prompts", "prompts_list_changed"}),
        (b'{"logging":{}}', {"logging"}),
        (b'{"completions":{}}', {"completions"}),
        (b'{"tools":true}', {"tools"}),
    ],
)
def test_server_flags(text, true):
    found = parse_server_capabilities(text, Version.V2025_11_25)
    assert {name for name in FLAGS if getattr(found, name)} == true


@pytest.mark.parametrize(
    ("version", "text", "expected"),
    [
        (Version.V2024_11_05, b'{"prompts":{}}', True),
        (Version.V2024_11_05, b'{"resources":{}}', True),
        (Version.V2024_11_05, b'{"tools":{}}', False),
        (Version.V2025_03_26, b'{"prompts":{},"resources":{}}', False),
        (Version.V2025_11_25, b'{"prompts":{},"resources":{}}', False),
    ],
)
def test_the_oldest_version_has_completion_without_a_word_for_it(version, text, expected):
    assert parse_server_capabilities(text, version).completions is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            b'{"extensions":{"io.modelcontextprotocol/tasks":{},"a.b/c":{"x":1}}}',
            ("io.modelcontextprotocol/tasks", "a.b/c"),
        ),
        (b'{"extensions":{"a.b/c":null,"d.e/f":false,"g.h/i":true}}', ("g.h/i",)),
        (rb'{"extensions":{"a.b\/c":"\ud83d"}}', ("a.b/c",)),
        (b'{"extensions":{}}', ()),
        (b'{"extensions":["a.b/c"]}', ()),
        (b'{"extensions":null}', ()),
        (b'{"experimental":{"a.b/c":{}}}', ()),
        (b"{}", ()),
    ],
)
def test_extensions_of_a_modern_server(text, expected):
    assert parse_server_capabilities(text, MODERN).extensions == expected
    for version in HANDSHAKE:
        assert parse_server_capabilities(text, version).extensions == ()


@pytest.mark.parametrize("version", Version)
def test_gateway_declares_what_it_can_always_do(version):
    encoded = encode_gateway_capabilities(version)
    assert ("completions" in json.loads(encoded)) is (version >= Version.V2025_03_26)
    found = parse_server_capabilities(encoded, version)
    assert all(getattr(found, name) for name in FLAGS)
    assert found.extensions == ()


@pytest.mark.parametrize("version", Version)
def test_gateway_tells_extensions_to_modern_clients(version):
    encoded = encode_gateway_capabilities(version, b'{"a.b/c":{}}')
    assert parse_server_capabilities(encoded, version).extensions == (("a.b/c",) if version >= MODERN else ())
    assert (b"extensions" in encoded) is (version >= MODERN)


@pytest.mark.parametrize(
    ("extensions", "has"),
    [
        (None, False),
        (b"{}", False),
        (b'{"a.b/c":{}}', True),
        (b'{"x/y":{},"a.b/c":{"s":1}}', True),
        (b'{"x/y":{"s":"a.b/c"}}', False),
        (b'{"a.b/cd":{}}', False),
    ],
)
def test_an_extension_is_declared_by_its_own_key(extensions, has):
    assert declares(extensions, "a.b/c") is has
