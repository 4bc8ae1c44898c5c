from __future__ import annotations

import json

import msgspec
import pytest
from msgspec import Raw

from mcpd.protocol import convert
from mcpd.protocol.convert import (
    CANCEL,
    Untranslatable,
    down_list_entry,
    down_notification,
    down_request,
    down_result,
    drop_modern,
)
from mcpd.protocol.versions import HANDSHAKE, Version

V1, V2, V3, V4, V5 = Version


# ---- list entries: (kind, entry, first version that keeps it, what older ones get)

ENTRY_ROWS = {
    "tool icons": ("tools", '{"name":"t","icons":[]}', V4, '{"name":"t"}'),
    "tool title": ("tools", '{"name":"t","title":"T"}', V3, '{"name":"t"}'),
    "tool _meta": ("tools", '{"_meta":{"a/b":1},"name":"t"}', V3, '{"name":"t"}'),
    "tool outputSchema": ("tools", '{"name":"t","outputSchema":{"type":"object"}}', V3, '{"name":"t"}'),
    "tool outputSchema of any root": (
        "tools",
        '{"name":"t","outputSchema":{"type":"array"}}',
        V5,
        '{"name":"t"}',
    ),
    "tool outputSchema without a type": (
        "tools",
        '{"name":"t","outputSchema":{"anyOf":[]}}',
        V5,
        '{"name":"t"}',
    ),
    "tool annotations": ("tools", '{"name":"t","annotations":{"title":"T"}}', V2, '{"name":"t"}'),
    "resource icons": ("resources", '{"uri":"a:b","icons":[]}', V4, '{"uri":"a:b"}'),
    "resource title": ("resources", '{"uri":"a:b","title":"T"}', V3, '{"uri":"a:b"}'),
    "resource _meta": ("resources", '{"uri":"a:b","_meta":{}}', V3, '{"uri":"a:b"}'),
    "resource lastModified": (
        "resources",
        '{"uri":"a:b","annotations":{"priority":0.50,"lastModified":"x"},"size":1e3}',
        V3,
        '{"uri":"a:b","annotations":{"priority":0.50},"size":1e3}',
    ),
    "template icons": (
        "resourceTemplates",
        '{"uriTemplate":"a:{b}","icons":[]}',
        V4,
        '{"uriTemplate":"a:{b}"}',
    ),
    "template title": (
        "resourceTemplates",
        '{"uriTemplate":"a:{b}","title":""}',
        V3,
        '{"uriTemplate":"a:{b}"}',
    ),
    "template _meta": (
        "resourceTemplates",
        '{"uriTemplate":"a:{b}","_meta":{}}',
        V3,
        '{"uriTemplate":"a:{b}"}',
    ),
    "template lastModified": (
        "resourceTemplates",
        '{"annotations":{"lastModified":"x"}}',
        V3,
        '{"annotations":{}}',
    ),
    "prompt icons": ("prompts", '{"name":"p","icons":[]}', V4, '{"name":"p"}'),
    "prompt title": ("prompts", '{"name":"p","title":"P"}', V3, '{"name":"p"}'),
    "prompt _meta": ("prompts", '{"name":"p","_meta":{}}', V3, '{"name":"p"}'),
    "prompt argument title": (
        "prompts",
        '{"name":"p","arguments":[{"name":"a","title":"A"},{"name":"b"}]}',
        V3,
        '{"name":"p","arguments":[{"name":"a"},{"name":"b"}]}',
    ),
    "implementation icons": ("implementation", '{"name":"i","icons":[]}', V4, '{"name":"i"}'),
    "implementation description": ("implementation", '{"name":"i","description":"d"}', V4, '{"name":"i"}'),
    "implementation websiteUrl": ("implementation", '{"name":"i","websiteUrl":"h"}', V4, '{"name":"i"}'),
    "implementation title": ("implementation", '{"name":"i","title":"I"}', V3, '{"name":"i"}'),
}


@pytest.mark.parametrize("wrap", [bytes, Raw])
@pytest.mark.parametrize("row", ENTRY_ROWS)
def test_list_entries_on_both_sides_of_the_boundary(row, wrap):
    kind, text, since, older = ENTRY_ROWS[row]
    entry = wrap(text.encode())
    for to in Version:
        new = down_list_entry(kind, entry, to)
        if to >= since:
            assert new is entry
        else:
            assert bytes(new).decode() == older


def test_execution_is_for_one_version_only():
    entry = b'{"name":"t","execution":{"taskSupport":"optional"}}'
    assert down_list_entry("tools", entry, V4) is entry
    for to in (V1, V2, V3, V5):
        assert down_list_entry("tools", entry, to) == b'{"name":"t"}'


# ---- content blocks, inside each result that has them

BLOCK_ROWS = {
    "resource_link": (
        '{"type":"resource_link","uri":"a:b","name":"n","description":"d","annotations":{"priority":1}}',
        V3,
        '{"type":"text","text":"n: a:b (d)","annotations":{"priority":1}}',
    ),
    "resource_link without description": (
        '{"type":"resource_link","uri":"a:b","name":"n","icons":[],"_meta":{}}',
        V3,
        '{"type":"text","text":"n: a:b"}',
    ),
    "resource_link with lastModified": (
        '{"type":"resource_link","uri":"a:b","name":"n","annotations":{"lastModified":"x"}}',
        V3,
        '{"type":"text","text":"n: a:b","annotations":{}}',
    ),
    "audio": (
        '{"type":"audio","data":"QUJD","mimeType":"audio/wav","annotations":{"priority":1}}',
        V2,
        '{"type":"resource","resource":{"uri":"mcpd://content/audio","blob":"QUJD","mimeType":"audio/wav"},'
        '"annotations":{"priority":1}}',
    ),
    "block _meta": (
        '{"type":"text","text":"\\u00e9\\n","_meta":{"a":1}}',
        V3,
        '{"type":"text","text":"\\u00e9\\n"}',
    ),
    "embedded _meta": (
        '{"type":"resource","resource":{"uri":"a:b","text":"x","_meta":{}}}',
        V3,
        '{"type":"resource","resource":{"uri":"a:b","text":"x"}}',
    ),
    "lastModified": (
        '{"type":"text","text":"x","annotations":{"audience":["user"],"lastModified":"x"}}',
        V3,
        '{"type":"text","text":"x","annotations":{"audience":["user"]}}',
    ),
    "text": ('{"type":"text","text":"x"}', V1, ""),
    "image": ('{"type":"image","data":"QUJD","mimeType":"image/png"}', V1, ""),
    "unknown type": ('{"type":"hologram","data":[1.0]}', V1, ""),
}

BLOCK_PLACES = {
    "tools/call": '{"n":1.0,"content":[{"type":"text","text":"first"},%s],"isError":false,"x":1E2}',
    "prompts/get": '{"messages":[{"role":"user","content":%s,"x":1.50}],"description":"d"}',
}


@pytest.mark.parametrize("method", BLOCK_PLACES)
@pytest.mark.parametrize("row", BLOCK_ROWS)
def test_blocks_on_both_sides_of_the_boundary(row, method):
    block, since, older = BLOCK_ROWS[row]
    result = Raw((BLOCK_PLACES[method] % block).encode())
    for to in Version:
        new = down_result(method, result, to)
        if to >= since:
            assert new is result
        else:
            assert bytes(new).decode() == BLOCK_PLACES[method] % older


STRUCTURED_ROWS = {
    "beside text": (
        '{"content":[{"type":"text","text":"x"}],"structuredContent":{"a":1.0}}',
        '{"content":[{"type":"text","text":"x"}]}',
    ),
    "alone": (
        '{"content":[],"structuredContent":{"a":"\\"é"}}',
        '{"content":[{"type":"text","text":"{\\"a\\":\\"\\\\\\"é\\"}"}]}',
    ),
    "without content": ('{"structuredContent":{}}', '{"content":[{"type":"text","text":"{}"}]}'),
    "beside a link": (
        '{"structuredContent":{},"content":[{"type":"resource_link","uri":"a:b","name":"n"}]}',
        '{"content":[{"type":"text","text":"n: a:b"},{"type":"text","text":"{}"}]}',
    ),
    "beside something odd": ('{"content":7,"structuredContent":{}}', '{"content":7}'),
}


@pytest.mark.parametrize("row", STRUCTURED_ROWS)
def test_structured_content_on_both_sides_of_the_boundary(row):
    text, older = STRUCTURED_ROWS[row]
    result = text.encode()
    for to in Version:
        new = down_result("tools/call", result, to)
        if to >= V3:
            assert new is result
        else:
            assert new.decode() == older


def test_resource_contents_meta():
    result = b'{"contents":[{"uri":"a:b","text":"x","_meta":{}},{"uri":"a:c","blob":""}],"_meta":{"a/b":1}}'
    for to in Version:
        new = down_result("resources/read", result, to)
        if to >= V3:
            assert new is result
        else:
            assert new == b'{"contents":[{"uri":"a:b","text":"x"},{"uri":"a:c","blob":""}],"_meta":{"a/b":1}}'


@pytest.mark.parametrize("method", ["completion/complete", "tools/list", "unknown/method"])
def test_results_that_have_nothing_to_convert(method):
    result = b'{"completion":{"values":["_meta","audio"]},"structuredContent":{}}'
    for to in Version:
        assert down_result(method, result, to) is result


def test_escaped_names_are_not_overlooked():
    result = b'{"content":[{"type":"audi\\u006f","data":"QQ=="}]}'
    new = json.loads(down_result("tools/call", result, V1))
    assert new["content"][0]["type"] == "resource"


def test_unicode_escapes_alone_change_nothing():
    result = b'{"content":[{"type":"text","text":"\\u00e9"}]}'
    assert down_result("tools/call", result, V1) is result


ODD = [
    b"",
    b"null",
    b"7",
    b'"_meta"',
    b"[]",
    b'["_meta","audio","structuredContent","title"]',
    b"{",
    b'{"_meta"',
    b'{"\xff_meta":1,"audio":2}',
    b'{"content":{"_meta":1}}',
    b'{"content":[1,null,"audio",["_meta"]]}',
    b'{"content":[{"type":"audio"}]}',
    b'{"content":[{"type":["audio"],"annotations":"lastModified"}]}',
    b'{"messages":{"_meta":1},"x":"audio"}',
    b'{"messages":["_meta",{"content":"audio"}]}',
    b'{"contents":"_meta"}',
    b'{"arguments":"title"}',
    b'{"annotations":["lastModified"]}',
    b'{"requestedSchema":["oneOf"]}',
    b'{"requestedSchema":{"properties":["oneOf"]}}',
    b'{"requestedSchema":{"properties":{"a":"oneOf","b":{"oneOf":7},"c":{"oneOf":[{}]}}}}',
    b"[" * 5000 + b'"_meta"' + b"]" * 5000,
    b'{"a":' * 5000 + b'"_meta"' + b"}" * 5000,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:40].decode(errors="replace"))
def test_unexpected_shapes_pass_unchanged(odd):
    for to in Version:
        for kind in convert.ENTRIES:
            assert down_list_entry(kind, odd, to) == odd or b'"annotations":["lastModified"]' in odd
        for method in convert.RESULTS:
            assert down_result(method, odd, to) is odd
        for method in convert.REQUESTS:
            if method != "elicitation/create" or to >= V3:
                assert down_request(method, odd, to) is odd
        for method in convert.NOTIFICATIONS:
            assert down_notification(method, odd, to) is odd
    assert drop_modern(odd) is odd


def test_lone_surrogates_survive():
    result = b'{"x":"\\ud800","structuredContent":{},"content":[{"type":"text","text":"t"}]}'
    assert down_result("tools/call", result, V1) == b'{"x":"\\ud800","content":[{"type":"text","text":"t"}]}'


# ---- requests


@pytest.mark.parametrize("method", ["tools/call", "sampling/createMessage", "elicitation/create"])
def test_task_is_for_one_version_only(method):
    params = b'{"name":"t","message":"m","task":{"ttl":1}}'
    for to in Version:
        if method == "elicitation/create" and to < V3:
            continue
        new = down_request(method, params, to)
        if to is V4:
            assert new is params
        else:
            assert new == b'{"name":"t","message":"m"}'


def test_completion_context():
    params = b'{"ref":{"type":"ref/prompt"},"context":{"arguments":{}},"argument":{"name":"a","value":""}}'
    for to in Version:
        new = down_request("completion/complete", params, to)
        if to >= V3:
            assert new is params
        else:
            assert new == b'{"ref":{"type":"ref/prompt"},"argument":{"name":"a","value":""}}'


def sampling(messages):
    return '{"messages":[' + messages + '],"maxTokens":1e2,"x":{"y":1.0}}'


SAMPLING_ROWS = {
    "content array": (
        '{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},'
        '{"role":"assistant","content":{"type":"text","text":"c"}}',
        V4,
        '{"role":"user","content":{"type":"text","text":"a"}},{"role":"user","content":{"type":"text","text":"b"}},'
        '{"role":"assistant","content":{"type":"text","text":"c"}}',
    ),
    "array of one": (
        '{"role":"user","content":[{"type":"text","text":"a"}]}',
        V4,
        '{"role":"user","content":{"type":"text","text":"a"}}',
    ),
    "message _meta": (
        '{"role":"user","content":{"type":"text","text":"a"},"_meta":{}}',
        V4,
        '{"role":"user","content":{"type":"text","text":"a"}}',
    ),
    "block _meta": (
        '{"role":"user","content":{"type":"text","text":"a","_meta":{}}}',
        V3,
        '{"role":"user","content":{"type":"text","text":"a"}}',
    ),
    "lastModified": (
        '{"role":"user","content":{"type":"text","text":"a","annotations":{"lastModified":"x"}}}',
        V3,
        '{"role":"user","content":{"type":"text","text":"a","annotations":{}}}',
    ),
    "single stays single": ('{"role":"user","content":{"type":"image","data":"","mimeType":"x/y"}}', V1, ""),
}


@pytest.mark.parametrize("row", SAMPLING_ROWS)
def test_sampling_on_both_sides_of_the_boundary(row):
    messages, since, older = SAMPLING_ROWS[row]
    params = Raw(sampling(messages).encode())
    for to in Version:
        new = down_request("sampling/createMessage", params, to)
        if to >= since:
            assert new is params
        else:
            assert bytes(new).decode() == sampling(older)


REFUSED_SAMPLING = {
    "tools": ('{"messages":[],"tools":[]}', V4),
    "toolChoice": ('{"messages":[],"toolChoice":{"mode":"auto"}}', V4),
    "tool_use": ('{"messages":[{"role":"assistant","content":{"type":"tool_use"}}]}', V4),
    "tool_result": ('{"messages":[{"role":"user","content":[{"type":"tool_result"}]}]}', V4),
    "audio": ('{"messages":[{"role":"user","content":{"type":"audio","data":""}}]}', V2),
    "audio in an array": ('{"messages":[{"role":"user","content":[{"type":"text"},{"type":"audio"}]}]}', V2),
}


@pytest.mark.parametrize("row", REFUSED_SAMPLING)
def test_sampling_that_older_clients_cannot_do(row):
    text, since = REFUSED_SAMPLING[row]
    params = text.encode()
    for to in Version:
        if to >= since:
            down_request("sampling/createMessage", params, to)
            continue
        with pytest.raises(Untranslatable, match="older than") as refused:
            down_request("sampling/createMessage", params, to)
        assert refused.value.code == -32602
        assert refused.value.answer is None


def test_sampling_is_not_split_without_bound():
    block = b'{"type":"text","text":""},' * convert.MESSAGES_MAX + b'{"type":"text","text":""}'
    with pytest.raises(Untranslatable, match="more than 10000 messages"):
        down_request("sampling/createMessage", b'{"messages":[{"role":"user","content":[%b]}]}' % block, V3)


def form(field):
    head = '{"message":"m","requestedSchema":{"type":"object","properties":{"a":'
    return head + field + ',"z":{"type":"boolean"}}}}'


ELICITATION_ROWS = {
    "mode": ('{"mode":"form","message":"m"}', '{"message":"m"}'),
    "oneOf": (
        form('{"type":"string","oneOf":[{"const":"r","title":"Red"},{"const":"g","title":"Green"}],"title":"T"}'),
        form('{"type":"string","title":"T","enum":["r","g"],"enumNames":["Red","Green"]}'),
    ),
    "oneOf without titles": (
        form('{"type":"string","oneOf":[{"const":"r"}]}'),
        form('{"type":"string","enum":["r"],"enumNames":["r"]}'),
    ),
    "oneOf with default": (
        form('{"oneOf":[{"const":"r","title":"R"}],"default":"r"}'),
        form('{"enum":["r"],"enumNames":["R"]}'),
    ),
    "default of a string": (form('{"type":"string","default":"x"}'), form('{"type":"string"}')),
    "default of a number": (
        form('{"type":"number","default":1.0,"minimum":1e0}'),
        form('{"type":"number","minimum":1e0}'),
    ),
    "default of an integer": (form('{"type":"integer","default":1}'), form('{"type":"integer"}')),
    "default of an enum": (
        form('{"type":"string","enum":["a"],"default":"a"}'),
        form('{"type":"string","enum":["a"]}'),
    ),
    "default of a boolean": (form('{"type":"boolean","default":true}'), None),
    "old enum": (form('{"type":"string","enum":["a"],"enumNames":["A"]}'), None),
}


@pytest.mark.parametrize("row", ELICITATION_ROWS)
def test_elicitation_on_both_sides_of_the_boundary(row):
    text, older = ELICITATION_ROWS[row]
    params = text.encode()
    for to in (V4, V5):
        assert down_request("elicitation/create", params, to) is params
    new = down_request("elicitation/create", params, V3)
    if older is None:
        assert new is params
    else:
        assert new.decode() == older
    for to in (V1, V2):
        with pytest.raises(Untranslatable, match="older than 2025-06-18") as refused:
            down_request("elicitation/create", params, to)
        assert refused.value.code == -32601


def test_choosing_several_values_is_cancelled_for_older_clients():
    params = form('{"type":"array","items":{"type":"string","enum":["a","b"]}}').encode()
    assert down_request("elicitation/create", params, V4) is params
    with pytest.raises(Untranslatable, match="several values") as refused:
        down_request("elicitation/create", params, V3)
    assert refused.value.answer == CANCEL == b'{"action":"cancel"}'


def test_url_elicitation_is_refused_for_older_clients():
    params = b'{"mode":"url","url":"https://a.example/","message":"m","elicitationId":"1"}'
    assert down_request("elicitation/create", params, V4) is params
    with pytest.raises(Untranslatable, match="URL") as refused:
        down_request("elicitation/create", params, V3)
    assert refused.value.code == -32602
    assert refused.value.answer is None


def test_progress_message():
    params = b'{"progressToken":1,"progress":1.0,"message":"m","total":2e0}'
    assert down_notification("notifications/progress", params, V1) == b'{"progressToken":1,"progress":1.0,"total":2e0}'
    for to in (V2, V3, V4, V5):
        assert down_notification("notifications/progress", params, to) is params
    assert down_notification("notifications/message", params, V1) is params


# ---- 2026-07-28


@pytest.mark.parametrize("member", ["resultType", "ttlMs", "cacheScope", "inputResponses", "requestState"])
def test_members_of_modern_only(member):
    content = b'{"x":1.0,"%b":"y","content":[]}' % member.encode()
    assert drop_modern(content) == b'{"x":1.0,"content":[]}'


def test_structured_content_of_any_type_is_modern_only():
    result = b'{"content":[],"structuredContent":[1.0]}'
    assert drop_modern(result) == b'{"content":[{"type":"text","text":"[1.0]"}]}'
    result = b'{"content":[],"structuredContent":{"a":1}}'
    assert drop_modern(result) is result


# ---- the tables themselves


@pytest.mark.parametrize("table", [convert.ENTRIES, convert.RESULTS, convert.REQUESTS, convert.NOTIFICATIONS])
def test_every_row_applies_somewhere(table):
    for name, rows in table.items():
        for row in rows:
            assert any(to not in row.item for to in Version), (name, row.item.name)
            assert row.marks


def test_results_are_untouched_for_whoever_has_all_content():
    result = b'{"content":[{"type":"audio"}],"structuredContent":{},"_meta":{}}'
    for to in (V3, V4, V5):
        assert down_result("tools/call", result, to) is result
    assert HANDSHAKE[-1] is V4


def test_converted_results_are_json():
    result = msgspec.json.encode(
        {
            "content": [
                {"type": "text", "text": "a\u2028b", "_meta": {}},
                {"type": "audio", "data": "QQ==", "mimeType": 'audio/"x"'},
                {"type": "resource_link", "name": 'n"\\', "uri": "a:b", "description": "\u00fc\n"},
            ],
            "structuredContent": {"k": [1, 2.5, None]},
        }
    )
    for to in Version:
        json.loads(bytes(down_result("tools/call", result, to)))
