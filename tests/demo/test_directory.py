"""Capabilities and handlers agree: what is not offered has neither."""

from __future__ import annotations

import pytest

from mcpd.demo.call import RpcError
from mcpd.demo.directory import PAGE, Directory, page
from mcpd.demo.offer import VERSIONS, Documents, Prompt, Tool

METHODS = {
    "tools": ["tools/list"],
    "prompts": ["prompts/list", "prompts/get"],
    "resources": [
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
    ],
    "completions": ["completion/complete"],
}


def offering(*features):
    directory = Directory()
    if "tools" in features:
        directory.tools["t"] = Tool({"name": "t"}, lambda call: "")
    if "prompts" in features:
        directory.prompts["p"] = Prompt({"name": "p", "arguments": []}, lambda: "")
    if "resources" in features:
        directory.documents = Documents(list, lambda uri: None, [])
    if "completions" in features:
        directory.complete = lambda reference, argument, typed: [str(n) for n in range(150)]
    return directory


@pytest.mark.parametrize("feature", METHODS)
def test_a_feature_has_its_capability_and_methods_or_none(feature):
    with_it, without = offering(feature), offering(*(METHODS.keys() - {feature}))
    for method in METHODS[feature]:
        assert with_it.handler(method) is not None
        assert without.handler(method) is None
    assert list(with_it.capabilities(VERSIONS[-1])) == [feature]
    assert feature not in without.capabilities(VERSIONS[-1])


def test_completions_have_no_capability_in_the_first_version():
    assert offering("completions").capabilities("2024-11-05") == {}


def test_a_completion_is_cut_at_the_limit():
    handler = offering("completions").handler("completion/complete")
    assert handler is not None
    completion = handler({"ref": {}, "argument": {}}, VERSIONS[-1])["completion"]
    assert (len(completion["values"]), completion["total"], completion["hasMore"]) == (100, 150, True)


@pytest.mark.parametrize("count", [0, 1, PAGE, PAGE + 1, 2 * PAGE])
def test_pages_join_to_the_whole_list(count):
    entries = [{"name": str(n)} for n in range(count)]
    got, cursor = [], None
    for _ in range(4):
        answer = page("things", entries, {} if cursor is None else {"cursor": cursor}, VERSIONS[-1])
        got += answer["things"]
        cursor = answer.get("nextCursor")
        if cursor is None:
            break
    assert got == entries


@pytest.mark.parametrize("cursor", ["", "x", "-1", "²", 5, []])
def test_a_cursor_nobody_gave_is_refused(cursor):
    with pytest.raises(RpcError) as refused:
        page("things", [], {"cursor": cursor}, VERSIONS[-1])
    assert refused.value.code == -32602
