from __future__ import annotations

import json

import pytest

from mcpd.backends import catalogue as catalogue_of
from mcpd.backends.base import Catalogue, Entry, Hint
from mcpd.backends.catalogue import ENTRIES_MAX, PAGES_MAX, fetch, fetch_kind
from mcpd.backends.opening import Era
from mcpd.config.model import Timeouts
from mcpd.errors import BackendCrashed, BackendMisbehaved, BackendTimedOut, RpcError
from tests.backends.parts import HELLO, Failure, linked


def tools(*names: str) -> list[dict[str, object]]:
    return [{"name": name, "inputSchema": {}} for name in names]


def keys(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.key for entry in entries]


async def names(link, kind: str) -> list[str]:
    entries, hint = await fetch_kind(link, kind, 5)
    assert hint is None, "a legacy backend says nothing about keeping a list"
    return keys(entries)


async def test_everything_that_was_announced_is_fetched(autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers.update(
            {
                "tools/list": {"tools": tools("b", "a")},
                "resources/list": {"resources": [{"uri": "x:/1", "name": "one"}]},
                "resources/templates/list": {"resourceTemplates": [{"uriTemplate": "x:/{n}", "name": "n"}]},
                "prompts/list": {"prompts": [{"name": "p"}]},
            }
        )
        catalogue, failed = await fetch(link, 5, Catalogue())
        assert failed == set()
        assert keys(catalogue.tools) == ["b", "a"], "in the backend's order"
        assert keys(catalogue.resources) == ["x:/1"]
        assert keys(catalogue.resource_templates) == ["x:/{n}"]
        assert keys(catalogue.prompts) == ["p"]


async def test_nothing_is_asked_that_was_not_announced(autojump_clock):
    async with linked(opened=False) as (link, carrier, _):
        carrier.answers["initialize"] = {**HELLO, "capabilities": {"tools": {}}}
        await link.open()
        await fetch(link, 5, Catalogue())
        assert carrier.methods()[2:] == ["tools/list"]


async def test_entries_are_kept_byte_for_byte(autojump_clock):
    async with linked() as (link, carrier, _):
        raw = '{"name" :"t","inputSchema":{"z":1.0e5,"a":[]} ,"x-own":"\\u00e4"}'

        def serve(message):
            carrier.link.receive(decode(f'{{"jsonrpc":"2.0","id":{message["id"]},"result":{{"tools":[ {raw} ]}}}}'))

        carrier.answers["tools/list"] = serve
        ((entry,), _hint) = await fetch_kind(link, "tools", 5)
        assert entry.raw == raw.encode()


def decode(text: str):
    from mcpd.protocol import jsonrpc

    return jsonrpc.decode(text.encode())


async def test_pages_are_followed_to_the_end(autojump_clock):
    async with linked() as (link, carrier, _):
        pages = {None: (["a"], ""), "": (["b"], "x"), "x": (["c", "a"], None)}

        def serve(message):
            names, following = pages[message.get("params", {}).get("cursor")]
            return {"tools": tools(*names), **({} if following is None else {"nextCursor": following})}

        carrier.answers["tools/list"] = serve
        assert await names(link, "tools") == ["a", "b", "c"]


async def test_a_repeated_cursor_ends_the_list(autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/list"] = {"tools": tools("a"), "nextCursor": "again"}
        assert await names(link, "tools") == ["a"]
        assert len(carrier.named("tools/list")) == 2


async def test_endless_pages_end(autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/list"] = lambda message: {
            "tools": tools(f"t{message['id']}"),
            "nextCursor": f"{message['id']}",
        }
        assert len(await names(link, "tools")) == PAGES_MAX


@pytest.mark.parametrize("cursor", [None, 7, {"a": 1}, True])
async def test_a_cursor_that_is_no_string_ends_the_list(cursor):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/list"] = {"tools": tools("a"), "nextCursor": cursor}
        assert await names(link, "tools") == ["a"]
        assert len(carrier.named("tools/list")) == 1


async def test_too_many_entries_are_cut(autojump_clock, monkeypatch):
    monkeypatch.setattr(catalogue_of, "ENTRIES_MAX", 3)
    assert ENTRIES_MAX > 3
    async with linked() as (link, carrier, _):
        carrier.answers["tools/list"] = {"tools": tools(*"abcdef")}
        assert await names(link, "tools") == ["a", "b", "c"]


@pytest.mark.parametrize("junk", ["text", 7, None, {}, {"name": 7}, {"title": "no name"}, []])
async def test_bad_entries_are_left_out(junk):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/list"] = {"tools": [*tools("a"), junk, *tools("b")]}
        assert await names(link, "tools") == ["a", "b"]


@pytest.mark.parametrize("result", [{"tools": {}}, {"tools": "x"}, [], "x", 7])
async def test_an_answer_that_is_no_list(result):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/list"] = result
        with pytest.raises(BackendMisbehaved, match="not a list"):
            await fetch_kind(link, "tools", 5)


async def test_no_member_is_an_empty_list(autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/list"] = {}
        assert await names(link, "tools") == []


async def test_a_method_that_it_does_not_have_is_an_empty_list(autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["resources/templates/list"] = Failure(-32601, "what?")
        assert await names(link, "resourceTemplates") == []


async def test_one_list_that_fails_does_not_take_the_others_along(autojump_clock):
    async with linked() as (link, carrier, _):
        known = Catalogue(prompts=(Entry("old", json.dumps({"name": "old"}).encode()),))
        carrier.answers["prompts/list"] = Failure(-32603, "no database")
        carrier.answers["resources/list"] = lambda message: None
        catalogue, failed = await fetch(link, 5, known)
        assert failed == {"prompts", "resources"}
        assert keys(catalogue.tools) == ["t"]
        assert catalogue.prompts == known.prompts, "what was known of it stays"
        assert catalogue.resources == ()


async def test_all_lists_failing_is_a_failure(autojump_clock):
    async with linked(opened=False) as (link, carrier, _):
        carrier.answers["initialize"] = {**HELLO, "capabilities": {"tools": {}}}
        await link.open()
        carrier.answers["tools/list"] = Failure(-32603, "no database")
        with pytest.raises(RpcError, match="no database"):
            await fetch(link, 5, Catalogue())


async def test_a_link_lost_meanwhile_is_a_failure(autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["resources/list"] = lambda message: link.fail(BackendCrashed("b", "gone"))
        with pytest.raises(BackendCrashed):
            await fetch(link, 5, Catalogue())


async def test_a_page_that_does_not_come(autojump_clock):
    async with linked(timeouts=Timeouts(list=5)) as (link, carrier, _):
        carrier.answers["tools/list"] = lambda message: None
        with pytest.raises(BackendTimedOut, match=r"timeouts.list"):
            await fetch_kind(link, "tools", 5)


# ---- modern backends


def page(kind="tools", **members):
    return {kind: [], "resultType": "complete", **members}


@pytest.mark.parametrize(
    ("members", "hint"),
    [
        ({"ttlMs": 300000, "cacheScope": "public"}, Hint(300000, True)),
        ({"ttlMs": 1, "cacheScope": "private"}, Hint(1, False)),
        ({"ttlMs": 5}, Hint(5, False)),
        ({"cacheScope": "public"}, Hint(0, True)),
        ({}, Hint(0, False)),
        ({"ttlMs": -1, "cacheScope": "everybody"}, Hint(0, False)),
        ({"ttlMs": 1.5}, Hint(0, False)),
        ({"ttlMs": "5"}, Hint(0, False)),
        ({"ttlMs": None}, Hint(0, False)),
        ({"ttlMs": 10**17}, Hint(0, False)),
    ],
)
async def test_how_long_a_list_may_be_kept(members, hint):
    async with linked(era=Era.MODERN) as (link, carrier, _):
        carrier.answers["tools/list"] = page(**members)
        assert await fetch_kind(link, "tools", 5) == ((), hint)


async def test_the_first_page_says_it():
    async with linked(era=Era.MODERN) as (link, carrier, _):
        pages = [page(ttlMs=5, nextCursor="a"), page(ttlMs=7, cacheScope="public")]
        carrier.answers["tools/list"] = lambda message: pages.pop(0)
        assert (await fetch_kind(link, "tools", 5))[1] == Hint(5, False)
        assert carrier.named("tools/list")[1]["params"]["cursor"] == "a"


@pytest.mark.parametrize("kind", ["input_required", "task", "x", 7])
async def test_a_result_of_another_type_is_no_list(kind):
    async with linked(era=Era.MODERN) as (link, carrier, _):
        carrier.answers["tools/list"] = {**page(), "resultType": kind}
        with pytest.raises(BackendMisbehaved, match="not a list"):
            await fetch_kind(link, "tools", 5)


@pytest.mark.parametrize(
    ("era", "shared", "kept"),
    [(Era.MODERN, False, ["right"]), (Era.MODERN, True, ["wrong", "right"]), (Era.LEGACY, False, ["wrong", "right"])],
)
async def test_tools_whose_headers_cannot_be_are_left_out_where_there_are_headers(era, shared, kept):
    wrong = {"properties": {"x": {"type": "array", "x-mcp-header": "X"}}}
    async with linked(era=era, shared=shared) as (link, carrier, _):
        listed = [{"name": "wrong", "inputSchema": wrong}, *tools("right")]
        carrier.answers["tools/list"] = {"tools": listed, "resultType": "complete"}
        entries, _hint = await fetch_kind(link, "tools", 5)
        assert keys(entries) == kept


async def test_hints_are_part_of_a_catalogue():
    async with linked(era=Era.MODERN) as (link, carrier, _):
        carrier.answers["tools/list"] = page(ttlMs=5)
        carrier.answers["prompts/list"] = Failure(-32603, "no database")
        known = Catalogue().with_kind("prompts", (), Hint(9, True))
        catalogue, failed = await fetch(link, 5, known)
        assert failed == {"prompts"}
        assert (catalogue.hint("tools"), catalogue.hint("prompts")) == (Hint(5, False), Hint(9, True))
        assert catalogue.with_kind("tools", ()).hint("tools") is None
