from __future__ import annotations

import logging

import pytest
import trio

from mcpd.systemd.notify import Notifier
from mcpd.systemd.watchdog import feed
from tests.systemd.receiver import Receiver


@pytest.fixture
def manager(tmp_path):
    with Receiver(tmp_path / "notify") as receiver:
        yield receiver


def signs(manager):
    found = 0
    while True:
        try:
            assert manager.receive() == {"WATCHDOG": "1"}
        except BlockingIOError:
            return found
        found += 1


async def test_three_signs_of_life_in_each_interval(manager, nursery, autojump_clock):
    nursery.start_soon(lambda: feed(Notifier(manager.address), 30, ailment=lambda: None))
    await trio.sleep(5)
    assert signs(manager) == 1, "the first at once: the manager has been counting since READY"
    await trio.sleep(30)
    assert signs(manager) == 3


async def test_an_ailing_server_is_left_to_the_watchdog_and_says_why_once(manager, nursery, autojump_clock, caplog):
    ailments = ["", "nobody accepts", "nobody accepts", "nobody accepts", "", ""]
    look = iter(ailments)
    with caplog.at_level(logging.ERROR):
        nursery.start_soon(lambda: feed(Notifier(manager.address), 3, ailment=lambda: next(look, None) or None))
        await trio.sleep(0.5)
        assert signs(manager) == 1
        await trio.sleep(3)
        assert signs(manager) == 0
        await trio.sleep(2)
        assert signs(manager) == 2
    assert caplog.text.count("nobody accepts") == 1
