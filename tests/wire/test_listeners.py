from __future__ import annotations

import socket

import pytest

from mcpd.errors import ConfigError
from mcpd.wire.listeners import bound_addresses, format_address, is_loopback, open_listeners


async def test_port_zero_gives_all_addresses_the_same_port():
    listeners = await open_listeners("localhost", 0)
    try:
        addresses = bound_addresses(listeners)
        assert {port for _, port in addresses} == {addresses[0][1]}
        assert addresses[0][1] > 0
        for host, port in addresses:
            assert await is_loopback(host)
            socket.create_connection((host, port)).close()
    finally:
        for listener in listeners:
            listener.close()


async def test_a_taken_port_is_an_error_that_says_so():
    first = await open_listeners("127.0.0.1", 0)
    try:
        with pytest.raises(ConfigError, match="another process listens"):
            await open_listeners("127.0.0.1", first[0].getsockname()[1])
    finally:
        first[0].close()


@pytest.mark.parametrize("host", ["192.0.2.1", "a..invalid"])
async def test_hosts_that_are_not_ours(host):
    with pytest.raises(ConfigError, match="cannot listen on"):
        await open_listeners(host, 0)


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("", False),
        ("a..invalid", False),
    ],
)
async def test_is_loopback(host, answer):
    assert await is_loopback(host) is answer


def test_format_address():
    assert format_address("127.0.0.1", 1) == "127.0.0.1:1"
    assert format_address("::1", 1) == "[::1]:1"
