"""The upgrade in place, from outside: nobody notices it, and what cannot be upgraded goes on as it was."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
import trio

import mcpd
from tests.e2e.background import alive, children, descriptors, everything, until
from tests.e2e.upgrading import CLIENTS, Load, under_load
from tests.fixtures.peer import HttpPeer, ModernHttpPeer, start_daemon

PATIENCE = 100.0
"""Seconds for an upgrade to be refused or done: it starts Python twice, which takes ten each where much else runs."""


@pytest.mark.slow
@pytest.mark.parametrize(("first", "upgrades"), [("legacy", 2), ("modern", 1)])
async def test_nobody_notices_upgrades_under_load(first, upgrades):
    """`make test-upgrade` does more of them."""
    async with under_load(first) as state:
        before = sorted(children(state.running.pid))
        assert len(before) == 2
        for _ in range(upgrades):
            await state.upgrade()
            await state.more(CLIENTS)
        assert sorted(children(state.running.pid)) == before
    state.verify(exactly=first == "legacy")
    assert [pid for pid in before if alive(pid)] == []


async def refused(running, since: int) -> str:
    """Why the next upgrade after so many characters of the log was refused."""
    await until(lambda: "event=upgrade_refused" in running.stderr[since:], PATIENCE)
    return running.stderr[since:].partition("event=upgrade_refused")[2]


@pytest.mark.slow
async def test_broken_code_leaves_the_running_program_as_it_was_until_it_is_mended(tmp_path):
    package = shutil.copytree(Path(mcpd.__file__).parent, tmp_path / "code" / "mcpd")
    # The copy is what runs, and not what stands in the directory that it is started in.
    env = {"PYTHONPATH": str(tmp_path / "code"), "PYTHONSAFEPATH": "1"}
    async with start_daemon({"mcpServers": {"e": everything()}}, env=env) as running, HttpPeer(running.url) as peer:
        await peer.initialize()
        assert await peer.open_stream() == 200
        first = await peer.call_json("counter")
        module = package / "gateway" / "gate.py"
        sound = module.read_text()
        module.write_text(sound + "def (:\n")
        running.process.send_signal(signal.SIGUSR2)
        assert "SyntaxError" in await refused(running, 0)
        assert (await peer.call_json("counter"))["pid"] == first["pid"]
        module.write_text(sound)
        state = Load(running)
        await state.upgrade()
        last = await peer.call_json("counter")
        assert last == {"pid": first["pid"], "process": 3, "session": last["session"]}
        await peer.call("test_trigger_tool_change")
        await peer.wait_notifications("notifications/tools/list_changed")


@pytest.mark.slow
async def test_a_configuration_that_does_not_load_calls_it_off_and_a_new_one_is_taken_up():
    config = {"mcpServers": {"a": everything(prefix="a_"), "b": everything(prefix="b_"), "c": everything(prefix="c_")}}
    async with start_daemon(config) as running, HttpPeer(running.url) as peer:
        await peer.initialize()
        a, b, c = [(await peer.call_json(f"{name}_counter"))["pid"] for name in "abc"]
        since = len(running.stderr)
        running.config.write_text("{")
        running.process.send_signal(signal.SIGUSR2)
        assert str(running.config) in await refused(running, since)
        assert (await peer.call_json("a_counter"))["pid"] == a
        changed = {"a": config["mcpServers"]["a"], "b": {**config["mcpServers"]["b"], "env": {"X": "1"}}}
        running.config.write_text(json.dumps({"mcpServers": changed}))
        await Load(running).upgrade()
        assert (await peer.call_json("a_counter"))["pid"] == a, "it is as it was"
        assert (await peer.call_json("b_counter"))["pid"] != b, "it is another one now"
        await until(lambda: not alive(b) and not alive(c), 30)
        assert sorted(children(running.pid)) == sorted([a, (await peer.call_json("b_counter"))["pid"]])


@pytest.mark.slow
async def test_upgrades_leak_nothing_and_a_kill_after_them_leaves_nothing(tmp_path):
    config = {"mcpServers": {"e": everything(), "p": everything(prefix="p_", instances="per-session", era="legacy")}}
    async with start_daemon(config, state_dir=str(tmp_path)) as running:
        async with HttpPeer(running.url) as peer:
            await peer.initialize()
            assert await peer.open_stream() == 200
            assert (await peer.call_json("p_counter"))["session"] == 1
            before = sorted(children(running.pid))
            assert len(before) == 3
            state = Load(running)
            await state.upgrade()
            assert (await peer.call_json("p_counter"))["session"] == 2, "the session's own link went on"
            opened = descriptors(running.pid)
            await state.upgrade()
            assert (await peer.call_json("p_counter"))["session"] == 3
            assert sorted(children(running.pid)) == before
            await until(lambda: descriptors(running.pid) <= opened)
        running.process.kill()
        await running.process.wait()
    async with start_daemon(config, state_dir=str(tmp_path)):
        await until(lambda: not any(alive(pid) for pid in before), 30)


@pytest.mark.slow
async def test_leased_children_and_the_spare_one_are_the_same_ones_after_it():
    config = {"mcpServers": {"e": everything(instances="leased", era="legacy")}}
    async with start_daemon(config) as running, ModernHttpPeer(running.url) as peer:
        peer.capabilities = {"elicitation": {"form": {}}}
        peer.callbacks["elicitation/create"] = lambda params: {"action": "accept", "content": {"name": "n"}}

        async def ask() -> None:
            answered = await peer.call("test_elicitation", {"message": "who"}, timeout=PATIENCE)
            assert "action=accept" in json.dumps(answered.result)

        async def count() -> dict[str, int]:
            return await peer.call_json("counter", timeout=PATIENCE)

        await ask()
        first = await count()
        assert first["session"] == 1
        await until(lambda: running.stderr.count("event=started pid=") == 3, PATIENCE)
        before = sorted(children(running.pid))
        assert len(before) == 3
        spare = int(re.findall(r"event=started pid=(\d+)", running.stderr)[-1])
        assert spare in set(before) - {first["pid"]}
        state, opened = Load(running), 0
        for upgrade in (1, 2):
            await state.upgrade()
            await until(lambda upgrade=upgrade: running.stderr.count("event=taken_over") == 3 * upgrade, PATIENCE)
            await ask()
            assert await count() == {"pid": first["pid"], "process": upgrade + 1, "session": upgrade + 1}
            assert sorted(children(running.pid)) == before
            opened = opened or descriptors(running.pid)
        await until(lambda: descriptors(running.pid) <= opened, PATIENCE)
        # Another kind of client: the spare one is for it, and another one is started ahead.
        peer.capabilities = {"sampling": {}}
        assert await count() == {"pid": spare, "process": 1, "session": 1}
        await until(lambda: len(children(running.pid)) == 4, PATIENCE)
        everyone = children(running.pid)
        assert set(before) < set(everyone)
    assert not any(alive(pid) for pid in everyone)


@pytest.mark.slow
async def test_what_was_sent_while_there_was_no_program_to_take_it_is_taken_by_the_next():
    async with start_daemon({"mcpServers": {"e": everything()}}) as running, HttpPeer(running.url) as peer:
        await peer.initialize()
        [child] = children(running.pid)
        running.process.send_signal(signal.SIGUSR2)
        await until(lambda: "step=exec" in running.stderr, PATIENCE)
        assert (await peer.call_json("counter"))["pid"] == child
        # This one may come before, while or after the program is replaced: it ends mcpd in any case.
        running.process.send_signal(signal.SIGUSR2)
        await until(lambda: running.stderr.count("step=exec") == 2, PATIENCE)
        running.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await running.process.wait() == 0
        await until(lambda: not alive(child))
