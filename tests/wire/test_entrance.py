from __future__ import annotations

import logging
import os
import socket

import pytest
import trio
import trio.lowlevel

from mcpd.config.model import Listen
from mcpd.errors import ConfigError, NotAvailable
from mcpd.systemd.manager import Manager
from mcpd.systemd.notify import Notifier
from mcpd.systemd.passed import Passed
from mcpd.wire.entrance import HTTP, KEPT, check_exposure, open_entrance
from tests.systemd.receiver import Receiver


def listener(address: str = "127.0.0.1", family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    return socket.create_server((address, 0), family=family)


def passing(*named: tuple[str, socket.socket], notify: Notifier | None = None) -> Manager:
    """A manager that passed these; the sockets are its own from here on."""
    return Manager(notify or Notifier(), Passed([(name, sock.detach()) for name, sock in named]))


async def test_without_a_manager_the_configuration_counts():
    entrance = await open_entrance(Listen(port=0), Manager())
    with socket.create_connection(entrance.addresses[0], timeout=10):
        assert entrance.loopback
    entrance.close()


async def test_sockets_of_a_unit_come_before_the_configuration(caplog):
    first, second = listener(), listener()
    ports = [first.getsockname()[1], second.getsockname()[1]]
    with caplog.at_level(logging.WARNING):
        entrance = await open_entrance(Listen(port=1), passing((HTTP, first), (HTTP, second)))
    assert [port for _, port in entrance.addresses] == ports
    assert entrance.loopback
    assert "event=listen_not_used listen=127.0.0.1:1" in caplog.text
    assert all(sock.gettimeout() == 0 for sock in entrance.sockets)
    entrance.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_who_configured_what_the_unit_says_is_not_warned(host, caplog):
    sock = listener()
    port = sock.getsockname()[1]
    with caplog.at_level(logging.WARNING):
        (await open_entrance(Listen(host=host, port=port), passing((HTTP, sock)))).close()
    assert caplog.text == ""


@pytest.mark.parametrize(("address", "family"), [("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)])
async def test_a_unit_that_listens_for_everybody_needs_the_operators_word(address, family):
    with pytest.raises(ConfigError, match="others can reach") as caught:
        await open_entrance(Listen(), passing((HTTP, listener()), (HTTP, listener(address, family))))
    assert caught.value.exit_code == 78
    listen = Listen(behind_authenticating_proxy=True)
    entrance = await open_entrance(listen, passing((HTTP, listener(address, family))))
    assert not entrance.loopback
    entrance.close()


async def test_a_configuration_for_everybody_is_no_harm_where_the_unit_says_loopback():
    entrance = await open_entrance(Listen(host="0.0.0.0"), passing((HTTP, listener())))
    assert entrance.loopback
    entrance.close()


async def test_an_address_that_only_looks_like_the_loopback_of_the_other_family():
    mapped = socket.socket(socket.AF_INET6)
    mapped.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    mapped.bind(("::ffff:127.0.0.1", 0))
    mapped.listen()
    entrance = await open_entrance(Listen(), passing((HTTP, mapped)))
    assert entrance.loopback
    entrance.close()


def unix_listener(path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


@pytest.mark.parametrize("kind", ["datagram", "connection", "unix", "pipe"])
async def test_what_cannot_be_accepted_from_is_refused(kind, tmp_path):
    with listener() as peer:
        if kind == "datagram":
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        elif kind == "connection":
            sock = socket.create_connection(peer.getsockname())
        elif kind == "unix":
            sock = unix_listener(tmp_path / "s")
        else:
            read, write = os.pipe()
            os.close(write)
            manager = Manager(Notifier(), Passed([(HTTP, read)]))
        if kind != "pipe":
            manager = passing((HTTP, sock))
        with pytest.raises(ConfigError, match="no listening TCP socket"):
            await open_entrance(Listen(), manager)


# ---- what systemd keeps


async def answering(receiver: Receiver) -> None:
    """A manager's answer to a barrier."""
    await receiver.wait_for("BARRIER")
    receiver.close_fds()


async def test_our_own_sockets_are_given_to_systemd_and_found_again(tmp_path, nursery):
    with Receiver(tmp_path / "notify") as receiver:
        notify = Notifier(receiver.address)
        first = await open_entrance(Listen(port=0), Manager(notify))
        assert receiver.receive() == {"FDSTORE": "1", "FDNAME": KEPT}
        kept = socket.socket(fileno=receiver.fds.pop())
        address = first.addresses[0]
        first.close()
        with socket.create_connection(address, timeout=10) as early:
            nursery.start_soon(answering, receiver)
            second = await open_entrance(Listen(port=address[1]), passing((KEPT, kept), notify=notify))
            assert second.addresses == [address]
            accepted, peer = second.sockets[0].accept()
            assert peer == early.getsockname(), "who came in between is served"
            accepted.close()
        assert receiver.seen[-2] == {"FDSTOREREMOVE": "1", "FDNAME": KEPT}
        assert receiver.receive() == {"FDSTORE": "1", "FDNAME": KEPT}
        second.close()


async def test_port_zero_is_the_port_that_was_kept():
    sock = listener()
    address = sock.getsockname()
    entrance = await open_entrance(Listen(port=0), passing((KEPT, sock)))
    assert entrance.addresses == [address]
    entrance.close()


async def test_what_is_not_configured_any_more_is_closed_before_the_new_address_is_bound(tmp_path, nursery):
    everybody = listener("0.0.0.0")
    port = everybody.getsockname()[1]
    other = listener()
    other_address = other.getsockname()
    with Receiver(tmp_path / "notify") as receiver:
        nursery.start_soon(answering, receiver)
        manager = passing((KEPT, everybody), (KEPT, other), notify=Notifier(receiver.address))
        entrance = await open_entrance(Listen(port=port), manager)
    assert entrance.addresses == [("127.0.0.1", port)]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(other_address)
    entrance.close()


async def test_a_unit_replaces_what_was_kept(tmp_path, nursery):
    kept, given = listener(), listener()
    addresses = [kept.getsockname(), given.getsockname()]
    with Receiver(tmp_path / "notify") as receiver:
        nursery.start_soon(answering, receiver)
        manager = passing((KEPT, kept), (HTTP, given), notify=Notifier(receiver.address))
        entrance = await open_entrance(Listen(port=addresses[0][1]), manager)
        with trio.fail_after(10):
            while {"FDSTOREREMOVE": "1", "FDNAME": KEPT} not in receiver.seen:
                await trio.lowlevel.checkpoint()
        with pytest.raises(BlockingIOError):
            receiver.receive()
    assert entrance.addresses == addresses[1:]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(addresses[0])
    entrance.close()


@pytest.mark.parametrize("listen", [Listen(host="0.0.0.0"), Listen(host="a..invalid")])
async def test_what_was_kept_is_closed_where_nothing_comes_of_it(listen):
    kept = listener()
    address = kept.getsockname()
    with pytest.raises(ConfigError):
        await open_entrance(listen, passing((KEPT, kept)))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_an_address_in_use_may_be_free_later():
    with listener() as taken, pytest.raises(NotAvailable) as caught:
        await open_entrance(Listen(port=taken.getsockname()[1]), Manager())
    assert caught.value.exit_code == 69


# ---- who can reach it


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
async def test_loopback_is_open_to_this_machine_only(host):
    assert await check_exposure(Listen(host=host))


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.0.2.1"])
async def test_everything_else_needs_the_operators_word(host):
    with pytest.raises(ConfigError) as caught:
        await check_exposure(Listen(host=host))
    assert caught.value.exit_code == 78
    assert "listen.behind_authenticating_proxy" in str(caught.value)
    assert not await check_exposure(Listen(host=host, behind_authenticating_proxy=True))
