"""The notebook: resources, template, prompts, completion, subscriptions, list changes, sampling."""

from __future__ import annotations

import pytest

from tests.demo.servers import VERSIONS, check_named, check_tools, demo, first_text
from tests.fixtures.peer import PeerError


@pytest.mark.parametrize("version", VERSIONS)
async def test_offers_everything_in_the_form_of_each_version(version):
    async with demo("notes") as peer:
        opened = await peer.initialize(version)
        capabilities = opened["capabilities"]
        assert capabilities["resources"] == {"subscribe": True, "listChanged": True}
        assert ("completions" in capabilities) == (version >= "2025-03-26")
        check_tools(await peer.list_all("tools/list", "tools"), version)
        resources = await peer.list_all("resources/list", "resources")
        check_named(resources, "uri", version)
        check_named(await peer.list_all("resources/templates/list", "resourceTemplates"), "uriTemplate", version)
        check_named(await peer.list_all("prompts/list", "prompts"), "name", version)
        for resource in resources:
            contents = (await peer.request("resources/read", {"uri": resource["uri"]}))["contents"]
            assert contents[0]["uri"] == resource["uri"]
            assert len(contents[0]["text"].encode()) == resource["size"]
        result = await peer.call("add_note", {"title": "milk", "text": "buy some"})
        link = result["content"][1]
        if version >= "2025-06-18":
            assert (link["type"], link["uri"]) == ("resource_link", "notes://milk")
        else:
            assert link == {"type": "text", "text": "milk: notes://milk"}
        found = await peer.call("find_notes", {"words": "BUY"})
        assert ("structuredContent" in found) == (version >= "2025-06-18")
        assert await peer.call_json("find_notes", {"words": "BUY"}) == {"titles": ["milk"], "count": 1}


async def test_announces_new_notes_and_changes_of_watched_ones():
    async with demo("notes") as peer:
        await peer.initialize()
        await peer.call("add_note", {"title": "groß & klein", "text": "1"})
        await peer.wait_notifications("notifications/resources/list_changed")
        uri = "notes://gro%C3%9F%20%26%20klein"
        await peer.request("resources/subscribe", {"uri": uri})
        await peer.call("append_to_note", {"title": "groß & klein", "text": "2"})
        assert await peer.wait_notifications("notifications/resources/updated") == [{"uri": uri}]
        assert (await peer.request("resources/read", {"uri": uri}))["contents"][0]["text"] == "1\n2"
        await peer.request("resources/unsubscribe", {"uri": uri})
        await peer.call("append_to_note", {"title": "groß & klein", "text": "3"})
        await peer.call("delete_note", {"title": "groß & klein"})
        await peer.wait_notifications("notifications/resources/list_changed", 2)
        assert len(peer.notifications("notifications/resources/updated")) == 1
        with pytest.raises(PeerError) as gone:
            await peer.request("resources/read", {"uri": uri})
        assert (gone.value.code, gone.value.data) == (-32002, {"uri": uri})
        with pytest.raises(PeerError):
            await peer.request("resources/subscribe", {"uri": uri})


async def test_pages_a_long_list():
    async with demo("notes") as peer:
        await peer.initialize()
        for number in range(60):
            await peer.call("add_note", {"title": f"n{number}", "text": "x"})
        first = await peer.request("resources/list", {})
        assert len(first["resources"]) == 50
        assert len(await peer.list_all("resources/list", "resources")) == 62
        with pytest.raises(PeerError) as refused:
            await peer.request("resources/list", {"cursor": "elsewhere"})
        assert refused.value.code == -32602


async def test_prompts_and_completion():
    async with demo("notes") as peer:
        await peer.initialize()
        prompt = await peer.request("prompts/get", {"name": "summarize_note", "arguments": {"note": "ideas"}})
        assert "append to it" in prompt["messages"][0]["content"]["text"]
        assert (
            "welcome" in (await peer.request("prompts/get", {"name": "review_notes"}))["messages"][0]["content"]["text"]
        )
        for ref, argument in (
            ({"type": "ref/prompt", "name": "summarize_note"}, "note"),
            ({"type": "ref/resource", "uri": "notes://{title}"}, "title"),
        ):
            params = {"ref": ref, "argument": {"name": argument, "value": "we"}}
            answer = await peer.request("completion/complete", params)
            assert answer == {"completion": {"values": ["welcome"], "total": 1, "hasMore": False}}
        for params in (
            {"name": "summarize_note"},
            {"name": "nothing"},
        ):
            with pytest.raises(PeerError) as refused:
                await peer.request("prompts/get", params)
            assert refused.value.code == -32602
        with pytest.raises(PeerError):
            await peer.request("completion/complete", {"ref": {"type": "ref/prompt", "name": "x"}, "argument": {}})


async def test_drafts_with_the_model_of_the_client():
    async with demo("notes") as peer:
        peer.callbacks["sampling/createMessage"] = lambda params: {
            "role": "assistant",
            "model": "m",
            "content": {
                "type": "text",
                "text": f"On {params['messages'][0]['content']['text'].split()[-1]}.",
            },
        }
        await peer.initialize(capabilities={"sampling": {}})
        await peer.call("draft_note", {"title": "draft", "topic": "bees"})
        contents = await peer.request("resources/read", {"uri": "notes://draft"})
        assert contents["contents"][0]["text"] == "On bees."

        def refuse(params):
            raise PeerError({"code": -1, "message": "user rejected sampling"})

        peer.callbacks["sampling/createMessage"] = refuse
        result = await peer.call("draft_note", {"title": "draft", "topic": "wasps"})
        assert result["isError"] is True
        assert "user rejected sampling" in first_text(result)


async def test_needs_a_client_that_can_sample_and_text_that_can_be_written():
    async with demo("notes") as peer:
        await peer.initialize()
        result = await peer.call("draft_note", {"title": "draft", "topic": "bees"})
        assert (result["isError"], "sampling" in first_text(result)) == (True, True)
        result = await peer.call("add_note", {"title": "half \ud800", "text": "x"})
        assert (result["isError"], first_text(result)) == (True, "title is not valid Unicode")
        result = await peer.call("add_note", {"title": " ", "text": "x"})
        assert result["isError"] is True
        result = await peer.call("append_to_note", {"title": "none", "text": "x"})
        assert "welcome, ideas" in first_text(result)
