"""Listening sockets, and the question whether a host name means this machine alone."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import TYPE_CHECKING

import trio

from mcpd.errors import ConfigError, NotAvailable, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BACKLOG = 1024
"""Connections the kernel holds until they are accepted; it cuts this to net.core.somaxconn (4096 by
default)."""
PORT_TRIES = 8
"""With port 0 and two families the port of the first may be taken in the second; then both are tried anew."""

TCP = frozenset({socket.AF_INET, socket.AF_INET6})

_NOT_HERE = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""`localhost` is ::1 too where IPv6 is off; that is no error while another address can be bound."""


async def open_listeners(host: str, port: int, kept: Sequence[socket.socket] = ()) -> list[socket.socket]:
    """Non-blocking listening sockets, one for each address of `host`, all on the same port. "" is every
    address. Those among `kept` that listen there already are not opened anew; the other ones are closed.

    Raises: ConfigError, when the name does not resolve or an address cannot be bound.
    Resources: `kept` is this function's to close, whatever happens.
    """
    try:
        addresses = await _resolve(host, port)
    except ConfigError:
        _close(kept)
        raise
    there = {}
    for sock in kept:
        # Before anything is bound: an address that is not wanted any more may be in the way of one that is.
        key = (int(sock.family), *sock.getsockname()[:2]) if is_listening(sock) else None
        if key is not None and key[:2] in addresses and port in (0, key[2]) and key not in there:
            there[key] = sock
            port = key[2]
        else:
            sock.close()
    last: OSError | None = None
    for _ in range(PORT_TRIES if port == 0 and len(addresses) > 1 else 1):
        try:
            return _bind_all(addresses, port, there)
        except OSError as error:
            last = error
            if error.errno != errno.EADDRINUSE:
                break
    assert last is not None
    _close(there.values())
    raise _refused(host, port, last)


async def _resolve(host: str, port: int) -> list[tuple[int, str]]:
    """(family, address) of a host name. Raises: ConfigError."""
    try:
        # Without AI_ADDRCONFIG, which hides `localhost` on a machine that has nothing but its loopback.
        found = await trio.socket.getaddrinfo(
            host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:  # the latter for a name that DNS cannot hold
        passes = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        kind = NotAvailable if passes else ConfigError
        raise kind(f"cannot listen on {host!r}: {error}", remedy="is the host name right?") from None
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


def _refused(host: str, port: int, last: OSError) -> ConfigError:
    remedy = ""
    if last.errno == errno.EADDRINUSE:
        remedy = "another process listens there: stop it or choose another port"
    elif last.errno == errno.EACCES:
        remedy = "ports below 1024 need CAP_NET_BIND_SERVICE or a listener passed by systemd"
    elif last.errno == errno.EADDRNOTAVAIL:
        remedy = "this machine has no such address"
    return refusal(last)(f"cannot listen on {host or '*'}:{port}: {last.strerror}", remedy=remedy)


def _bind_all(
    addresses: list[tuple[int, str]], port: int, there: Mapping[tuple[int, str, int], socket.socket]
) -> list[socket.socket]:
    """Listen on all addresses this machine has; `there` listens on some of them.

    Raises: OSError, with nothing left open that was opened here.
    """
    socks: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            try:
                sock = there.get((family, address, port)) or _bind(family, address, port)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
            else:
                socks.append(sock)
                port = port or sock.getsockname()[1]
        if not socks and missing is not None:
            raise missing
    except OSError:
        _close(set(socks) - set(there.values()))
        raise
    return socks


def is_listening(sock: socket.socket) -> bool:
    """Whether TCP connections can be accepted from it."""
    try:
        return sock.family in TCP and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError:
        return False


def _close(socks: Iterable[socket.socket]) -> None:
    for sock in socks:
        sock.close()


def _bind(family: int, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Otherwise `::` also takes IPv4, and the IPv4 socket beside it cannot be bound.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def bound_addresses(listeners: list[socket.socket]) -> list[tuple[str, int]]:
    """(IP address, port) of each listener."""
    return [(name[0], name[1]) for name in (listener.getsockname() for listener in listeners)]


def format_address(host: str, port: int) -> str:
    """`127.0.0.1:80` or `[::1]:80`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def is_loopback(host: str) -> bool:
    """Whether every address of `host` is this machine's own. "" (every address) and names that do not resolve
    are not.
    """
    if not host:
        return False
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        pass
    try:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(
        ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found
    )
