from __future__ import annotations

import pytest
import trio
import trio.testing

from mcpd.systemd.notify import Notifier
from mcpd.systemd.status import describe, report
from tests.systemd.receiver import Receiver


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({}, "no servers"),
        ({"a": "ready"}, "1 ready"),
        ({"github": "backing-off", "a": "ready", "b": "ready"}, "2 ready, 1 backing off: github"),
        ({"a": "needs-operator", "b": "starting", "c": "starting"}, "1 needs operator: a; 2 starting: b, c"),
        (
            {"x": "ready", "a": "starting", "b": "needs-operator"},
            "1 ready; 1 needs operator: b; 1 starting: a",
        ),
        ({str(number): "starting" for number in range(7)}, "7 starting: 0, 1, 2, 3, 4 and 2 more"),
    ],
)
def test_words(states, words):
    assert describe(states.items()) == words


async def test_the_status_follows_the_states_until_mcpd_is_leaving(tmp_path, autojump_clock):
    now = "1 starting: a"
    news = trio.Event()

    def change(text: str) -> None:
        nonlocal now, news
        now = text
        news.set()
        news = trio.Event()

    with Receiver(tmp_path / "notify") as manager:
        notify = Notifier(manager.address)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: report(notify, lambda: now, lambda: news.wait()))
            await trio.sleep(0.1)
            assert manager.receive()["STATUS"] == "1 starting: a"
            for text in ("half way", "1 ready"):
                change(text)
                await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(1)
            assert manager.receive()["STATUS"] == "1 ready"
            now = "1 stopped: a"  # and no news
            await trio.sleep(10)
            assert manager.receive()["STATUS"] == "1 stopped: a"
            notify.stopping("draining")
            now = "0 of 1"
        assert manager.receive()["STATUS"] == "draining"
        with pytest.raises(BlockingIOError):
            manager.receive()


async def test_nobody_is_reported_to_without_a_manager():
    await report(Notifier(), lambda: "1 ready", trio.sleep_forever)
