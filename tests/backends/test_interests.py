"""What clients want of a server besides calls; that links are set up by it is shown in `test_backend`."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from mcpd.backends.instances import Instances
from mcpd.backends.interests import Interests
from mcpd.errors import RpcError
from mcpd.types import SessionKey
from mcpd.wire.deadlines import Deadlines
from tests.backends.parts import Client, Failure, MemoryConnector, linked, make_spec

URI = "file:///a"


@asynccontextmanager
async def wanting(*, per_session: bool = False):
    """Interests in a server whose own link serves everybody."""
    async with linked() as (link, carrier, heard):
        spec = make_spec(instances="per-session" if per_session else "shared")
        connector = MemoryConnector(spec, Deadlines())

        async def link_for(caller):
            return link

        instances = Instances(connector, heard, at_failure=lambda: None)
        interests = Interests(spec, instances, link=lambda: link, link_for=link_for, updated=heard.resource_updated)
        interests.adopt(link)
        interests.instances = instances
        yield interests, link, carrier


async def test_a_link_is_set_up_with_what_was_wanted_before_it_was_there():
    async with wanting() as (interests, _, _):
        await interests.set_level("error", SessionKey("one"), "error")
        await interests.subscribe(Client("one").call(), URI, {"uri": b'"file:///a"'})
        async with linked() as (next_link, next_carrier, _):
            interests.adopt(next_link)
            await next_link.replay()
            assert next_carrier.named("logging/setLevel")[0]["params"] == {"level": "error"}
            assert next_carrier.named("resources/subscribe")[0]["params"] == {"uri": URI}


async def test_a_level_that_holds_already_is_not_said_again():
    async with wanting() as (interests, _, carrier):
        for key in ("one", "two"):
            await interests.set_level("error", SessionKey(key), "error")
        assert len(carrier.named("logging/setLevel")) == 1
        assert interests.instances.levels == {"one": "error", "two": "error"}
        interests.forget(SessionKey("one"))
        assert interests.instances.levels == {"two": "error"}


async def test_a_subscription_in_common_begins_with_the_first_and_ends_with_the_last():
    async with wanting(per_session=True) as (interests, link, carrier):
        for key in ("one", "two"):
            await interests.subscribe(Client(key).call(), URI, {"uri": b'"file:///a"'})
        assert len(carrier.named("resources/subscribe")) == 1
        await interests.unsubscribe(SessionKey("one"), URI)
        assert carrier.named("resources/unsubscribe") == []
        interests.forget(SessionKey("two"))
        await carrier.wait_sent("resources/unsubscribe")
        assert link.subscriptions == {}


async def test_a_subscription_that_is_refused_is_none():
    async with wanting(per_session=True) as (interests, _, carrier):
        carrier.answers["resources/subscribe"] = Failure(-32602, "no such resource")
        with pytest.raises(RpcError, match="no such resource"):
            await interests.subscribe(Client("one").call(), URI, {"uri": b'"file:///a"'})
        carrier.answers["resources/subscribe"] = {}
        await interests.subscribe(Client("two").call(), URI, {"uri": b'"file:///a"'})
        assert len(carrier.named("resources/subscribe")) == 2
