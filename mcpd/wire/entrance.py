"""Where clients come in: the sockets of a systemd socket unit, those that systemd kept for us, or our own.

Rules.
1. Sockets of a unit come before the configuration: they are open already, and stay so when mcpd is not there. What they
   are bound to decides who can reach mcpd, not `listen.host`, which is not opened then.
2. Sockets of our own are given to systemd to keep, so that a restart closes no port. They are used again as far as they
   are still what the configuration says.
3. What others can reach is not served without the operator's word that they are authenticated.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mcpd.errors import ConfigError
from mcpd.wire.listeners import bound_addresses, format_address, is_listening, is_loopback, open_listeners

if TYPE_CHECKING:
    import socket

    from mcpd.config.model import Listen
    from mcpd.systemd.manager import Manager

log = logging.getLogger("mcpd.wire")

HTTP: Final = "http"
"""FileDescriptorName= of the socket units whose connections are clients."""
KEPT: Final = "kept-http"
"""The name of our own ones while systemd keeps them; another one, because units may come and go."""
FORGET_TIME: Final = 2.0
"""Seconds for systemd to close what it kept; it reads its messages at once unless the machine is very busy. If it takes
longer, an address may be found in use, and the next start finds it free."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """Listening sockets, the caller's to close."""

    sockets: list[socket.socket]
    loopback: bool
    """Only this machine can reach them."""
    stays: bool = False
    """Clients may connect while mcpd is restarted: the sockets are not only ours."""
    name: str = KEPT
    """What they are called when they are passed on."""

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(IP address, port) of each."""
        return bound_addresses(self.sockets)

    def passable(self) -> list[tuple[str, socket.socket]]:
        """What the next program in this process is passed, as by a service manager."""
        return [(self.name, sock) for sock in self.sockets]

    def close(self) -> None:
        """The sockets; systemd may still have them."""
        for sock in self.sockets:
            sock.close()


async def open_entrance(listen: Listen, manager: Manager) -> Entrance:
    """Listen. Raises: ConfigError."""
    kept = manager.passed.claim_sockets(KEPT)
    if kept:
        # What of it is used is stored anew; what is not must be closed everywhere before another address is bound.
        manager.notify.forget(KEPT)
        await manager.notify.barrier(FORGET_TIME)
    if HTTP in manager.passed:
        for sock in kept:
            sock.close()
        return _passed(manager.passed.claim_sockets(HTTP), listen)
    try:
        loopback = await check_exposure(listen)
    except ConfigError:
        for sock in kept:
            sock.close()
        raise
    sockets = await open_listeners(listen.host, listen.port, kept)
    stored = manager.notify.store(KEPT, [sock.fileno() for sock in sockets])
    return Entrance(sockets, loopback, stays=stored)


def _passed(sockets: list[socket.socket], listen: Listen) -> Entrance:
    """Serve what a socket unit opened. Raises: ConfigError."""
    entrance = Entrance(sockets, loopback=False, stays=True, name=HTTP)
    try:
        if not sockets or not all(is_listening(sock) for sock in sockets):
            raise ConfigError(
                f"systemd passed something as '{HTTP}' that is no listening TCP socket",
                remedy=f"FileDescriptorName={HTTP} belongs to a unit with ListenStream=ADDRESS:PORT and Accept=no",
            )
        addresses = entrance.addresses
        shown = ", ".join(format_address(*each) for each in addresses)
        loopback = all(_is_own(address) for address, _ in addresses)
        if not loopback and not listen.behind_authenticating_proxy:
            raise ConfigError(
                f"others can reach {shown}, which systemd listens on, and mcpd does not authenticate clients itself",
                path="listen.behind_authenticating_proxy",
                remedy="use ListenStream=127.0.0.1:PORT in the socket unit, or set this if something in front does",
            )
    except ConfigError:
        entrance.close()
        raise
    host = listen.host.strip("[]")
    if not any(
        port == listen.port and (address == host or (_is_own(address) and loopback and host == "localhost"))
        for address, port in addresses
    ):
        log.warning(
            "event=listen_not_used listen=%s used=%s reason='a socket unit of systemd decides: "
            "change its ListenStream=, or mask it'",
            format_address(listen.host, listen.port),
            shown,
        )
    return Entrance(sockets, loopback, stays=True, name=HTTP)


def _is_own(address: str) -> bool:
    """Whether nobody but this machine reaches an address: `::` and 0.0.0.0 are everybody's."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


async def check_exposure(listen: Listen) -> bool:
    """Whether only this machine can reach the address. Raises: ConfigError, when others can and nobody
    authenticates them.
    """
    loopback = await is_loopback(listen.host)
    if not loopback and not listen.behind_authenticating_proxy:
        raise ConfigError(
            f"others can reach {listen.host!r}, and mcpd does not authenticate clients itself",
            path="listen.host",
            remedy="use 127.0.0.1, or set listen.behind_authenticating_proxy if something in front does",
        )
    return loopback
