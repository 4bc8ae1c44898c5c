"""A backend for each session: whose state is whose, and when it ends."""

# ruff: noqa: ASYNC110 - processes and remotes tell nothing of what goes on inside them
from __future__ import annotations

import pytest
import trio

from tests.e2e.backends import fixture, mini, new_token, processes_with, server_state, wait_until
from tests.fixtures.peer import MODERN, HttpPeer, ModernHttpPeer, PeerError, start_daemon, start_fixture


async def test_a_shared_child_is_one_process():
    config = {"mcpServers": {"e": fixture("everything")}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as one, HttpPeer(daemon.url) as two:
        await one.initialize()
        await two.initialize()
        counts = [(await peer.call_json("e_counter"))["process"] for peer in (one, two, one)]
        assert counts == [1, 2, 3]


async def test_every_session_has_its_own_child_which_ends_with_it():
    token = new_token()
    config = {"mcpServers": {"a": mini(token=token, instances="per-session")}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as one, HttpPeer(daemon.url) as two:
        await one.initialize()
        await two.initialize()
        pids = [int(await peer.call_text("a_pid")) for peer in (one, two, one)]
        assert pids[0] == pids[2] != pids[1]
        about = await server_state(one, daemon, "a")
        assert about["sessions"] == 2
        assert about["pid"] not in pids, "the catalogue has a process of its own"
        assert set(processes_with(token)) == {*pids, about["pid"]}
        await one.delete()
        await wait_until(lambda: set(processes_with(token)) == {pids[1], about["pid"]})
        assert int(await two.call_text("a_pid")) == pids[1]
        with pytest.raises(PeerError, match="exited with status 9"):
            await two.call("a_exit", {"code": 9})
        again = int(await two.call_text("a_pid"))
        assert again not in pids
        assert (await server_state(two, daemon, "a"))["state"] == "ready"
        assert (await server_state(two, daemon, "a"))["restarts"] == 0
    assert processes_with(token) == []


async def test_all_clients_of_a_principal_have_one_child_which_outlives_them():
    token = new_token()
    config = {"mcpServers": {"a": mini(token=token, instances="per-principal")}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as one, ModernHttpPeer(daemon.url) as two:
        await one.initialize()
        pids = [await peer.call_json("a_pid") for peer in (one, two, one)]
        assert len(set(pids)) == 1
        about = await server_state(one, daemon, "a")
        assert (about["sessions"], about["instances"]) == (1, "per-principal")
        assert set(processes_with(token)) == {pids[0], about["pid"]}, "the catalogue has a process of its own"
        await one.delete()
        assert await two.call_json("a_pid") == pids[0]
    assert processes_with(token) == []


async def test_a_leased_child_is_started_before_its_first_call_and_ends_with_mcpd():
    token = new_token()
    config = {"mcpServers": {"a": mini(token=token, instances="leased")}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as one, HttpPeer(daemon.url) as two:
        await one.initialize(capabilities={"roots": {}})
        await two.initialize(capabilities={"elicitation": {}})
        for peer, others in ((one, 0), (two, 1)):
            await wait_until(lambda others=others: len(processes_with(token)) == others + 2)
            before = set(processes_with(token))
            about = await server_state(peer, daemon, "a")
            assert (about["leases"], about["calls_in_flight"]) == (others + 1, 0)
            assert int(await peer.call_text("a_pid")) in before - {about["pid"]}
        await wait_until(lambda: len(processes_with(token)) == 4)
    assert processes_with(token) == []


async def test_the_number_of_instances_is_bounded():
    token = new_token()
    config = {"mcpServers": {"a": mini(token=token, instances="per-session", max_instances=2)}}
    async with (
        start_daemon(config) as daemon,
        HttpPeer(daemon.url) as one,
        HttpPeer(daemon.url) as two,
        HttpPeer(daemon.url) as three,
        trio.open_nursery() as nursery,
    ):
        for peer in (one, two, three):
            await peer.initialize()
        nursery.start_soon(one.call, "a_hold")
        first = int(await one.call_text("a_pid"))
        second = int(await two.call_text("a_pid"))
        third = int(await three.call_text("a_pid"))
        await wait_until(lambda: second not in processes_with(token))
        assert {first, third} < set(processes_with(token)), "what is in use stays, what is idle makes room"
        await one.call("a_echo", {"release": True})


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_every_session_has_its_own_remote_session_which_ends_with_it(path):
    async with start_fixture("everything", "--era", "legacy") as remote:
        config = {"mcpServers": {"r": {"url": remote.base + path}}}
        async with start_daemon(config) as daemon, HttpPeer(daemon.url) as one, HttpPeer(daemon.url) as two:
            await one.initialize()
            await two.initialize()
            counts = [(await peer.call_json("r_counter"))["session"] for peer in (one, two, one, two, one)]
            assert counts == [1, 1, 2, 2, 3]
            assert (await two.call_json("r_stats"))["connections"] == 3
            await one.delete()
            with trio.fail_after(30):
                while (await two.call_json("r_stats"))["connections"] != 2:
                    await trio.sleep(0.02)
            assert (await two.call_json("r_counter"))["session"] >= 3


async def test_a_remote_can_be_shared():
    async with start_fixture("everything", "--era", "legacy") as remote:
        config = {"mcpServers": {"r": {"url": remote.url, "instances": "shared"}}}
        async with start_daemon(config) as daemon, HttpPeer(daemon.url) as one, HttpPeer(daemon.url) as two:
            await one.initialize()
            await two.initialize()
            counts = [(await peer.call_json("r_counter"))["session"] for peer in (one, two, one)]
            assert counts == [1, 2, 3]


async def test_a_stateless_remote_needs_no_session():
    async with start_fixture("everything", "--stateless", "--json") as remote:
        config = {"mcpServers": {"r": {"url": remote.url}}}
        async with start_daemon(config) as daemon, HttpPeer(daemon.url) as one, HttpPeer(daemon.url) as two:
            for peer in (one, two):
                await peer.initialize()
                assert (await peer.call_json("r_echo", {"value": 1}))["arguments"] == {"value": 1}
            assert (await server_state(one, daemon, "r"))["sessions"] == 0


@pytest.mark.parametrize("instances", ["shared", "per-session"])
async def test_a_modern_remote_hears_with_each_request_whom_it_is_for(instances):
    async with start_fixture("everything", "--era", "modern") as remote:
        config = {"mcpServers": {"r": {"url": remote.url, "instances": instances}}}
        async with (
            start_daemon(config) as daemon,
            HttpPeer(daemon.url) as one,
            HttpPeer(daemon.url) as two,
            ModernHttpPeer(daemon.url) as three,
        ):
            await one.initialize(capabilities={"roots": {}})
            await two.initialize(capabilities={"elicitation": {}})
            seen = [await peer.call_json("r_whoami") for peer in (one, two, one, three)]
            assert [set(each["capabilities"]) for each in seen] == [{"roots"}, {"elicitation"}, {"roots"}, set()]
            assert {each["session"] for each in seen} == {None}
            assert {each["version"] for each in seen} == {MODERN}
            counts = [(await peer.call_json("r_counter"))["process"] for peer in (one, two, three)]
            assert counts == [1, 2, 3]
            assert (await one.call_json("r_stats"))["connections"] == 0


async def test_questions_on_instances_reach_their_own_client():
    config = {"mcpServers": {"e": fixture("everything", instances="per-session")}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as one, HttpPeer(daemon.url) as two:
        results = {}

        async def ask(name, peer):
            peer.callbacks["roots/list"] = lambda params: {"roots": [{"uri": f"file:///{name}"}]}
            await peer.initialize(capabilities={"roots": {}})
            for _ in range(3):
                results.setdefault(name, []).append(await peer.call_json("e_list_roots"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "one", one)
            nursery.start_soon(ask, "two", two)
        assert results == {"one": [["file:///one"]] * 3, "two": [["file:///two"]] * 3}
