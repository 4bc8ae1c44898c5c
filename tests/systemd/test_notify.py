from __future__ import annotations

import logging
import os
import time
import uuid

import pytest
import trio
import trio.testing

from mcpd.systemd.notify import FDS_MAX, TEXT_MAX, Notifier
from tests.systemd.receiver import Receiver


@pytest.fixture
def manager(tmp_path):
    with Receiver(tmp_path / "notify") as receiver:
        yield receiver


def test_each_message_in_the_managers_words(manager):
    notify = Notifier(manager.address)
    assert notify
    notify.ready("1 ready")
    assert manager.receive() == {"READY": "1", "STATUS": "1 ready"}
    notify.extend_timeout(1.5)
    assert manager.receive() == {"EXTEND_TIMEOUT_USEC": "1500000"}
    notify.watchdog()
    assert manager.receive() == {"WATCHDOG": "1"}
    notify.main_pid(42)
    assert manager.receive() == {"MAINPID": "42"}
    assert not notify.leaving
    notify.stopping("stopping")
    assert manager.receive() == {"STOPPING": "1", "STATUS": "stopping"}
    assert notify.leaving
    notify.failed("no configuration", 78)
    assert manager.receive() == {"EXIT_STATUS": "78", "STATUS": "no configuration"}


def test_a_reload_tells_when_it_began_on_the_monotonic_clock(manager):
    before = time.monotonic()
    notify = Notifier(manager.address)
    notify.reloading()
    notify.reloaded()
    with pytest.raises(BlockingIOError):  # READY=1 must not come from a reload in the middle of the start
        manager.receive()
    notify.ready()
    assert manager.receive() == {"READY": "1"}
    notify.reloading("reading")
    message = manager.receive()
    assert (message["RELOADING"], message["STATUS"]) == ("1", "reading")
    assert int(before * 1e6) <= int(message["MONOTONIC_USEC"]) <= time.monotonic() * 1e6
    notify.reloaded()
    assert manager.receive() == {"READY": "1"}
    notify.stopping()
    assert manager.receive() == {"STOPPING": "1"}
    notify.reloading()
    notify.reloaded()
    with pytest.raises(BlockingIOError):
        manager.receive()


def test_an_abstract_address():
    address = f"@mcpd-test-{uuid.uuid4()}"
    with Receiver(address) as receiver:
        Notifier(address).ready()
        assert receiver.receive() == {"READY": "1"}


def test_the_same_status_is_sent_once(manager):
    notify = Notifier(manager.address)
    for text in ("a", "a", "b", "b", "", "b"):
        notify.status(text)
    assert [manager.receive()["STATUS"] for _ in "ab"] == ["a", "b"]
    with pytest.raises(BlockingIOError):
        manager.receive()
    notify.ready("b")
    assert manager.receive() == {"READY": "1"}


def test_a_status_is_one_line_of_bounded_length(manager):
    notify = Notifier(manager.address)
    notify.status("it failed:\nMAINPID=1\n " + "x" * 10_000)
    text = manager.receive()["STATUS"]
    assert text.startswith("it failed: MAINPID=1 xxx")
    assert len(text) == TEXT_MAX


def test_descriptors_are_kept_under_a_name(manager, tmp_path):
    notify = Notifier(manager.address)
    with (tmp_path / "kept").open("w+b") as file:
        assert notify.store("kept", [file.fileno()])
        assert manager.receive() == {"FDSTORE": "1", "FDNAME": "kept"}
        os.write(manager.fds[0], b"the same file")
        file.seek(0)
        assert file.read() == b"the same file"
        assert notify.store("kept", [file.fileno(), file.fileno()], poll=False)
        assert manager.receive() == {"FDSTORE": "1", "FDNAME": "kept", "FDPOLL": "0"}
        assert len(manager.fds) == 3
        with pytest.raises(ValueError, match="descriptors"):
            notify.store("kept", [file.fileno()] * (FDS_MAX + 1))
    notify.forget("kept")
    assert manager.receive() == {"FDSTOREREMOVE": "1", "FDNAME": "kept"}


@pytest.mark.parametrize("name", ["", "a:b", "a\nREADY=1", "ä", "x" * 256])
def test_names_that_systemd_would_not_take(name, manager):
    with pytest.raises(ValueError, match="no name"):
        Notifier(manager.address).store(name, [])


async def test_a_barrier_waits_until_the_manager_has_read_everything(manager):
    notify = Notifier(manager.address)
    done = []

    async def wait() -> None:
        done.append(await notify.barrier(30))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        assert await manager.wait_for("BARRIER", "1")
        await trio.testing.wait_all_tasks_blocked()
        assert done == []
        manager.close_fds()
    assert done == [True]


async def test_a_manager_that_does_not_answer_a_barrier_is_not_waited_for(manager, autojump_clock):
    began = trio.current_time()
    assert not await Notifier(manager.address).barrier(3)
    assert trio.current_time() - began == 3


@pytest.mark.parametrize("address", [None, "", "/", "vsock:2:9999", "relative"])
async def test_without_a_manager_nothing_happens(address):
    notify = Notifier(address)
    assert not notify
    notify.ready("x")
    assert not notify.store("x", [])
    assert not await notify.barrier(1)


def test_a_manager_that_is_gone_is_complained_about_once(tmp_path, caplog):
    notify = Notifier(str(tmp_path / "gone"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            notify.watchdog()
        notify.status("a")
    assert caplog.text.count("event=notify_failed") == 1
    with Receiver(notify.address) as manager:
        notify.status("a")
        assert manager.receive() == {"STATUS": "a"}, "what did not arrive is not taken for known"


def test_a_manager_that_reads_nothing_holds_up_nobody_for_long(manager):
    notify = Notifier(manager.address)
    for number in range(100_000):
        if not notify.store(f"n{number}", []):
            break
    else:
        pytest.fail("the queue of a datagram socket has no end")
