from __future__ import annotations

import pytest

from mcpd.protocol import versions
from mcpd.protocol.versions import (
    FEATURES,
    HANDSHAKE,
    LATEST_HANDSHAKE,
    MODERN,
    Version,
    has,
    negotiate,
    parse,
)

ALL = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")


def test_order_and_spelling():
    assert tuple(version.text for version in Version) == ALL
    assert sorted(Version) == list(Version)
    assert tuple(Version)[:-1] == HANDSHAKE
    assert LATEST_HANDSHAKE is Version.V2025_11_25
    assert MODERN is Version.V2026_07_28


@pytest.mark.parametrize("text", ALL)
def test_parse_known(text):
    version = parse(text)
    assert version is not None
    assert version.text == text


@pytest.mark.parametrize("text", ["", "2024-10-07", "2027-01-01", "2025-11-25 ", "v2025-11-25", "DRAFT-2026"])
def test_unknown_is_not_newer(text):
    assert parse(text) is None
    assert negotiate(text) is LATEST_HANDSHAKE


@pytest.mark.parametrize("version", HANDSHAKE)
def test_negotiate_supported(version):
    assert negotiate(version.text) is version


def test_negotiate_never_answers_a_version_without_handshake():
    assert negotiate(MODERN.text) is LATEST_HANDSHAKE


# One character a version, oldest first: who has it.
EXPECTED = {
    versions.HANDSHAKE_OPENING: "yyyy.",
    versions.SESSIONLESS: "....y",
    versions.SERVER_REQUESTS: "yyyy.",
    versions.PING: "yyyy.",
    versions.SET_LEVEL: "yyyy.",
    versions.SUBSCRIBE: "yyyy.",
    versions.RESOURCE_NOT_FOUND_CODE: "yyyy.",
    versions.STREAMABLE_HTTP: ".yyyy",
    versions.SESSION_ID: ".yyy.",
    versions.RESUMPTION: ".yyy.",
    versions.BATCH: ".y...",
    versions.TOOL_ANNOTATIONS: ".yyyy",
    versions.AUDIO: ".yyyy",
    versions.COMPLETIONS_CAPABILITY: ".yyyy",
    versions.PROGRESS_MESSAGE: ".yyyy",
    versions.STRUCTURED: "..yyy",
    versions.ELICITATION: "..yyy",
    versions.RESOURCE_LINK: "..yyy",
    versions.TITLE: "..yyy",
    versions.ITEM_META: "..yyy",
    versions.LAST_MODIFIED: "..yyy",
    versions.COMPLETION_CONTEXT: "..yyy",
    versions.VERSION_HEADER: "..yyy",
    versions.ICONS: "...yy",
    versions.IMPLEMENTATION_DETAILS: "...yy",
    versions.ELICITATION_URL: "...yy",
    versions.ELICITATION_COMPLETE: "...y.",
    versions.ENUM_SCHEMAS: "...yy",
    versions.SAMPLING_TOOLS: "...yy",
    versions.TASKS: "...y.",
    versions.PRIMING: "...y.",
    versions.FORBIDDEN_ORIGIN: "...yy",
    versions.INPUT_ERRORS_IN_RESULT: "...yy",
    versions.DISCOVER: "....y",
    versions.LISTEN: "....y",
    versions.INPUT_REQUIRED: "....y",
    versions.RESULT_TYPE: "....y",
    versions.CACHE_HINTS: "....y",
    versions.METHOD_HEADERS: "....y",
    versions.EXTENSIONS: "....y",
    versions.ANY_STRUCTURED: "....y",
}


def test_every_feature_is_expected():
    assert set(EXPECTED) == set(FEATURES)
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_who_has_a_feature(feature):
    for version, mark in zip(Version, EXPECTED[feature], strict=True):
        assert has(version, feature) is (mark == "y")
        assert (version in feature) is (mark == "y")
