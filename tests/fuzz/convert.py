"""Down-conversion: nothing raised but refusals, always JSON, done once is done, strangers survive."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from mcpd.protocol import convert
from mcpd.protocol.convert import Untranslatable
from mcpd.protocol.versions import Version
from tests.fuzz.runner import Target, main

NAMES = st.sampled_from(
    [
        *(
            "content",
            "contents",
            "messages",
            "arguments",
            "annotations",
            "resource",
            "requestedSchema",
            "properties",
        ),
        *(
            "type",
            "role",
            "title",
            "icons",
            "_meta",
            "lastModified",
            "structuredContent",
            "outputSchema",
            "name",
        ),
        *(
            "uri",
            "description",
            "data",
            "mimeType",
            "oneOf",
            "const",
            "default",
            "mode",
            "tools",
            "task",
            "context",
        ),
        *("execution", "message", "resultType", "stranger"),
    ]
)
WORDS = st.sampled_from(["text", "audio", "resource_link", "resource", "tool_use", "array", "object", "url", "x\ny"])
SHAPES = st.recursive(
    st.none() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=25,
)
OBJECTS = st.dictionaries(NAMES, SHAPES, max_size=6)

CONVERSIONS = [
    *((convert.down_list_entry, kind) for kind in convert.ENTRIES),
    *((convert.down_result, method) for method in convert.RESULTS),
    *((convert.down_request, method) for method in convert.REQUESTS),
    *((convert.down_notification, method) for method in convert.NOTIFICATIONS),
]


def check(value):
    message, (function, name), to, junk = value
    text = json.dumps(message).encode()
    try:
        once = bytes(function(name, text, to))
        twice = function(name, once, to)
    except Untranslatable:
        assert (function, to < Version.V2025_11_25) == (convert.down_request, True)
        return
    assert bytes(twice) == once
    converted = json.loads(once)
    assert converted.get("stranger") == message.get("stranger")
    broken = text.replace(b",", junk, 1)
    try:
        function(name, broken, to)
    except Untranslatable:
        pass


def check_modern(message):
    once = bytes(convert.drop_modern(json.dumps(message).encode()))
    assert bytes(convert.drop_modern(once)) == once
    assert "resultType" not in json.loads(once)


TARGETS = (
    Target(
        "convert",
        st.tuples(OBJECTS, st.sampled_from(CONVERSIONS), st.sampled_from(Version), st.binary(max_size=3)),
        check,
    ),
    Target("convert modern", OBJECTS, check_modern),
)

if __name__ == "__main__":
    main(TARGETS)
