from __future__ import annotations

import pytest

from mcpd.protocol import blocks
from mcpd.protocol.edits import apply


@pytest.mark.parametrize(
    ("edit", "content", "expected"),
    [
        (blocks.link_to_text, b'{"type":"resource_link"}', b'{"type":"text","text":"resource: "}'),
        (
            blocks.link_to_text,
            b'{"type":"resource_link","name":"n","uri":"a:b","description":""}',
            b'{"type":"text","text":"n: a:b"}',
        ),
        (
            blocks.audio_to_resource,
            b'{"type":"audio","data":"QQ=="}',
            b'{"type":"resource","resource":{"uri":"mcpd://content/audio","blob":"QQ=="}}',
        ),
        (
            blocks.any_structured_to_text,
            b'{"structuredContent":null}',
            b'{"content":[{"type":"text","text":"null"}]}',
        ),
        (blocks.drop_any_output_schema, b'{"outputSchema":true}', b"{}"),
    ],
)
def test_what_is_changed(edit, content, expected):
    assert apply(content, edit) == expected


@pytest.mark.parametrize(
    ("edit", "content"),
    [
        (blocks.link_to_text, b'{"type":"text"}'),
        (blocks.audio_to_resource, b'{"type":"audio"}'),
        (blocks.structured_to_text, b'{"content":[]}'),
        (blocks.any_structured_to_text, b'{"structuredContent":{}}'),
        (blocks.drop_any_output_schema, b'{"outputSchema":{"type":"object"}}'),
    ],
)
def test_what_is_left_alone(edit, content):
    assert apply(content, edit) is content
