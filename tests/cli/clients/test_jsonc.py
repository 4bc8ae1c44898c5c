from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpd.cli.clients.jsonc import plain, put, read

TEXT = """\
// Settings, "quoted" and all
{
\t/* several
\t   lines */
\t"editor.fontSize": 13, // for the // eyes
\t"url": "http://x/*no comment*/",
\t"mcpServers": {
\t\t"a": {"command": "x", "args": ["1", "2",],},
\t},
}
"""


def test_comments_and_commas_are_read_over():
    assert read(TEXT) == {
        "editor.fontSize": 13,
        "url": "http://x/*no comment*/",
        "mcpServers": {"a": {"command": "x", "args": ["1", "2"]}},
    }
    assert read("\ufeff{}") == {}
    assert read(" // nothing\n") is None
    assert len(plain(TEXT)) == len(TEXT)
    assert next(line for line in plain(TEXT).splitlines() if '"' in line).strip().startswith('"editor')


@pytest.mark.parametrize("text", ["{", '{"a": 1,, }', "[" * 100_000, '{"a" 1}', "{} {}"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        read(text)


def test_a_member_is_put_behind_the_last_and_all_else_stays():
    new = put(TEXT, ("mcpServers", "mcpd"), {"url": "u"})
    assert read(new)["mcpServers"]["mcpd"] == {"url": "u"}
    before, after = TEXT.splitlines(), new.splitlines()
    assert [line for line in after if line in before] == before
    assert after[after.index(before[7]) + 1].startswith('\t\t"mcpd": {')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "// mine\n",
        "{}",
        "{ }\n",
        '{"mcpServers": {}}',
        '{"mcpServers": {"a": 1}}',
        '{"mcpServers": {"a": 1,}, "z": 2}',
        '{\n  "z": 2 // the last\n}\n',
        '{\n  "z": 2, // the last\n}\n',
        '{\r\n    "mcpServers": {\r\n        "a": 1\r\n    }\r\n}\r\n',
        '{\n  "mcpServers": {\n    // none yet\n  }\n}\n',
        '\ufeff{"mcpServers": {"a": 1}}',
        '{"mcpServers": {"mcpd": "old", "b": 1}}',
        '{"a": "}", "mcpServers": {"q\\"}": "\\\\"}}',
    ],
)
def test_it_is_there_wherever_it_is_put(text):
    old = read(text) or {}
    meant = {**old, "mcpServers": {**old.get("mcpServers", {}), "mcpd": {"url": "é", "args": ["1"]}}}
    new = put(text, ("mcpServers", "mcpd"), {"url": "é", "args": ["1"]})
    assert read(new) == meant
    assert new.count("\r") == 0 or "\n" not in new.replace("\r\n", "")
    for comment in ("// mine", "// the last", "// none yet"):
        assert (comment in text) == (comment in new)
    assert put(new, ("mcpServers", "mcpd"), {"url": "é", "args": ["1"]}) == new


def test_what_is_no_object_is_not_overwritten():
    for text in ('{"mcpServers": []}', "[]", '{"mcpServers": null}'):
        with pytest.raises(ValueError, match="no object"):
            put(text, ("mcpServers", "mcpd"), {})


def test_it_is_indented_as_the_file_is():
    assert put(json.dumps({"a": {"b": 1}}, indent=4), ("a", "c"), {"d": 1}) == json.dumps(
        {"a": {"b": 1, "c": {"d": 1}}}, indent=4
    )


KEYS = st.text(max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    content=st.dictionaries(KEYS, VALUES, max_size=4),
    servers=st.none() | st.dictionaries(KEYS, VALUES, max_size=3),
    indent=st.sampled_from([None, 0, 2, "\t"]),
    note=st.sampled_from(["", " // a, b: {", " /* x */"]),
    ascii_only=st.booleans(),
)
def test_it_is_put_into_any_file(content, servers, indent, note, ascii_only):
    if servers is not None:
        content = {**content, "mcpServers": servers}
    if not isinstance(content.get("mcpServers", {}), dict):
        return
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    if indent is not None:
        text = "\n".join(line + note for line in text.split("\n"))
    new = put(text, ("mcpServers", "mcpd"), {"url": "u"})
    assert read(new) == {**content, "mcpServers": {**content.get("mcpServers", {}), "mcpd": {"url": "u"}}}
    if "mcpd" not in content.get("mcpServers", {}):
        rest = iter(new)
        assert all(character in rest for character in text if not character.isspace())
