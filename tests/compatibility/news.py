"""Rows about news: lists that change, resources that are updated, roots."""

# ruff: noqa: ASYNC110 - a server in another process tells nothing of what goes on inside it
from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.compatibility.clients import LegacyClient
from tests.compatibility.rows import YES, Theme
from tests.compatibility.wire import LOOK
from tests.fixtures.peer import PeerError

if TYPE_CHECKING:
    from tests.compatibility.columns import Bench

NEWS = Theme("News")
row = NEWS.row

WATCHED = "test://watched-resource"
UPDATED = "notifications/resources/updated"
LISTS = {"tools": "name", "prompts": "name", "resources": "uri"}


@row("Changed lists of tools, prompts and resources", YES, "listen")
async def lists(bench: Bench) -> str:
    client = await bench.client()
    for kind, key in LISTS.items():
        before = {each[key] for each in await client.all_of(f"{kind}/list", kind)}
        async with client.listening(kind) as news:  # type: ignore[attr-defined]
            await client.text(f"test_trigger_{kind.removesuffix('s')}_change")
            await news.wait(f"notifications/{kind}/list_changed")
        after = {each[key] for each in await client.all_of(f"{kind}/list", kind)}
        assert len(after - before) == 1
    return YES


@row("Updates of a resource: from the request for them to the end of it", YES, "listen")
async def updates(bench: Bench) -> str:
    client = await bench.client()
    async with client.listening(uris=[WATCHED]) as news:  # type: ignore[attr-defined]
        assert await client.text("test_trigger_resource_update", {"uri": WATCHED}) == "told 1"
        assert (await news.wait(UPDATED))["uri"] == WATCHED
    while (await bench.stats())["subscribed"]:
        await trio.sleep(LOOK)
    assert await client.text("test_trigger_resource_update", {"uri": WATCHED}) == "told 0"
    return YES


@row("The same, from a server that announces nothing", "-32602", "no-announcements", M_="left out")
async def deaf(bench: Bench) -> str:
    client = await bench.client(place="poor")
    if not bench.is_modern:
        try:
            async with client.listening(uris=[WATCHED]):  # type: ignore[attr-defined]
                return YES
        except PeerError as refused:
            return str(refused.code)
    async with client.listening("tools", uris=[WATCHED]) as news:  # type: ignore[attr-defined]
        assert news.acknowledged == {"toolsListChanged": True, "resourceSubscriptions": []}
    return "left out"


@row("resources/subscribe and /unsubscribe", YES, "listen", M_="-32601")
async def subscribe(bench: Bench) -> str:
    client = await bench.client()
    outcomes = [await client.request(f"resources/{verb}", {"uri": WATCHED}) for verb in ("subscribe", "unsubscribe")]
    if bench.is_modern:
        [code] = {outcome.error.code for outcome in outcomes}
        return str(code)
    assert [outcome.result for outcome in outcomes] == [{}, {}]
    return YES


@row("subscriptions/listen", YES, "listen", L_="-32601")
async def listen(bench: Bench) -> str:
    client = await bench.client()
    if not bench.is_modern:
        return str((await client.request("subscriptions/listen", {"notifications": {}})).error.code)
    async with client.listening("tools", "prompts", uris=[WATCHED]) as news:  # type: ignore[attr-defined]
        assert news.acknowledged == {
            "toolsListChanged": True,
            "promptsListChanged": True,
            "resourceSubscriptions": [WATCHED],
        }
    return YES


@row("Changed roots are told to the server", "dropped", "roots", LL=YES)
async def roots(bench: Bench) -> str:
    client = await (bench.modern() if bench.is_modern else bench.legacy(able=True))
    before = (await client.data("stats"))["roots_changed"]
    if isinstance(client, LegacyClient):
        await client.peer.notify("notifications/roots/list_changed")
    else:
        await client.notify("notifications/roots/list_changed")
    if bench.cell != "LL":
        assert (await client.data("stats"))["roots_changed"] == before
        return "dropped"
    while (await client.data("stats"))["roots_changed"] == before:
        await trio.sleep(LOOK)
    return YES
