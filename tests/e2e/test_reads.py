"""Resources of modern servers, read once for everybody while they are fresh."""

from __future__ import annotations

import pytest
import trio

from tests.e2e.backends import fixture
from tests.fixtures.peer import HttpPeer, ModernHttpPeer, start_daemon, start_fixture

TTL = 60_000
WATCHED = "test://watched-resource"


async def ttl(peer: ModernHttpPeer, uri: str = WATCHED) -> int:
    """What a read says of how long it is fresh: TTL if the server was asked just now, less if it was not."""
    read = (await peer.exchange("resources/read", {"uri": uri})).result
    assert (read["resultType"], read["cacheScope"], read["contents"][0]["uri"]) == ("complete", "private", uri)
    return int(read["ttlMs"])


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_resource_is_read_once_until_it_changes(transport):
    async with start_fixture("everything", "--era", "modern") as remote:
        server = {"url": remote.url} if transport == "http" else fixture("everything", "--era", "modern")
        config = {"mcpServers": {"e": {**server, "prefix": ""}}}
        async with (
            start_daemon(config) as daemon,
            ModernHttpPeer(daemon.url) as peer,
            HttpPeer(daemon.url) as older,
        ):
            await older.initialize()
            read = await older.request("resources/read", {"uri": WATCHED})
            assert read == {"contents": [{"uri": WATCHED, "mimeType": "text/plain", "text": "watch me"}]}
            left = await ttl(peer)
            assert 0 < left < TTL, "it was read for a client of the other era"
            assert 0 < await ttl(peer) <= left, "the same reading, whose time runs down in whole milliseconds"
            assert await older.request("resources/read", {"uri": WATCHED}) == read
            assert await ttl(peer, "test://static-text") == TTL

            async with peer.listen(uris=[WATCHED]) as heard:
                assert await ttl(peer) == TTL, "nobody would have said that it changed until now"
                assert await ttl(peer) < TTL
                assert (await peer.call("test_trigger_resource_update", {"uri": WATCHED})).text == "told 1"
                await heard.wait_notifications("notifications/resources/updated")
                assert await ttl(peer) == TTL
                assert await ttl(peer, "test://static-text") < TTL
                await peer.call("end_listens")
                with trio.fail_after(10):
                    while await ttl(peer, "test://static-text") < TTL:
                        pass  # the end of the stream and the answer to the call come each by its own way
