from __future__ import annotations

import pytest

from mcpd.config.model import Listen
from mcpd.frontends.guard import Guard, name_of

PLAIN = Guard(Listen(), loopback=True)


def status(guard: Guard, host: str | None = "localhost", origin: str | None = None) -> int:
    headers = {}
    if host is not None:
        headers[b"host"] = host.encode("latin-1")
    if origin is not None:
        headers[b"origin"] = origin.encode("latin-1")
    refusal = guard.refusal(headers, frozenset())
    return 200 if refusal is None else refusal[0]


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:8080", "localhost"),
        ("localhost.", "localhost"),
        ("localhost.:80", "localhost"),
        ("localhost:", "localhost"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[::1]:8080", "[::1]"),
        ("::1", "[::1]"),
        (" example.org ", "example.org"),
        ("", ""),
        (".", ""),
        ("[::1", ""),
        ("[::1]evil.example", ""),
        ("[]", ""),
        ("localhost:80@evil.example", ""),
        ("user@localhost", ""),
        ("localhost:http", ""),
        ("localhost:123456", ""),
        ("localhost/path", ""),
        ("localhost evil.example", ""),
        ("localhost,evil.example", ""),
        ("localhost\\evil.example", ""),
    ],
)
def test_a_name_is_read_in_one_way_only(authority, name):
    assert name_of(authority) == name


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("localhost.:8080", 200),
        ("127.0.0.1", 200),
        ("127.0.0.1:65535", 200),
        ("[::1]", 200),
        ("[::1]:8080", 200),
        ("", 421),
        (None, 421),
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil.example#localhost", 421),
        ("127.0.0.2", 421),
        ("[::1", 421),
        ("[::2]", 421),
        ("0.0.0.0", 421),
        ("2130706433", 421),
        ("xlocalhost", 421),
    ],
)
def test_host_on_loopback(host, expected):
    assert status(PLAIN, host) == expected


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, 200),
        ("http://localhost", 200),
        ("http://localhost:6274", 200),
        ("HTTPS://LocalHost:6274", 200),
        ("http://127.0.0.1:3000", 200),
        ("http://[::1]:3000", 200),
        ("null", 403),
        ("", 403),
        ("http://", 403),
        ("http://evil.example", 403),
        ("http://localhost.evil.example", 403),
        ("http://localhost:80@evil.example", 403),
        ("http://evil.example/localhost", 403),
        ("http://[::1", 403),
        ("ftp://localhost", 403),
        ("chrome-extension://localhost", 403),
        ("http://localhost http://evil.example", 403),
        ("file://", 403),
        ("http://evil\xe9", 403),
    ],
)
def test_origin_on_loopback(origin, expected):
    assert status(PLAIN, "localhost", origin) == expected


TRUSTING = Guard(
    Listen(
        trusted_hosts=("Mcp.Example.org:8443", ".intern.example", "fd00::5", "[fd00::6]:80", "."),
        trusted_origins=(
            "https://chat.example.org",
            "https://.intern.example",
            "http://x.example:81/",
            "vscode-webview://ab",
        ),
    ),
    loopback=True,
)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("mcp.example.org", 200),
        ("mcp.example.org:1", 200),
        ("MCP.EXAMPLE.ORG.", 200),
        ("example.org", 421),
        ("a.mcp.example.org", 421),
        ("intern.example", 200),
        ("a.intern.example", 200),
        ("a.b.intern.example:80", 200),
        ("evilintern.example", 421),
        ("[fd00::5]:8080", 200),
        ("[fd00::6]", 200),
        ("fd00", 421),
        ("", 421),
        (".", 421),
    ],
)
def test_trusted_hosts(host, expected):
    assert status(TRUSTING, host) == expected


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://chat.example.org", 200),
        ("https://chat.example.org:444", 200),
        ("http://chat.example.org", 403),
        ("https://a.chat.example.org", 403),
        ("https://a.intern.example", 200),
        ("https://evilintern.example", 403),
        ("http://x.example:81", 200),
        ("vscode-webview://ab", 200),
        ("vscode-webview://abc", 403),
        ("http://localhost:1", 200),
    ],
)
def test_trusted_origins(origin, expected):
    assert status(TRUSTING, "localhost", origin) == expected


def test_the_address_that_is_listened_on_is_a_name_of_ours():
    assert status(Guard(Listen(host="127.0.0.2"), loopback=True), "127.0.0.2:8080") == 200
    assert status(Guard(Listen(host="::1"), loopback=True), "[::1]:8080") == 200
    assert status(Guard(Listen(host="0.0.0.0", trusted_hosts=("a.example",)), loopback=False), "0.0.0.0") == 421


def test_beyond_loopback_hosts_are_checked_when_a_list_is_given():
    assert status(Guard(Listen(host="0.0.0.0"), loopback=False), "anything.example") == 200
    listed = Guard(Listen(host="0.0.0.0", trusted_hosts=("a.example",)), loopback=False)
    assert status(listed, "a.example:8080") == 200
    assert status(listed, "b.example") == 421
    assert status(listed, "a.example", "http://b.example") == 403, "Origin is always checked"


def test_two_hosts_or_origins_are_refused():
    for name in (b"host", b"origin"):
        refusal = PLAIN.refusal({b"host": b"localhost"}, frozenset((name,)))
        assert refusal is not None
        assert refusal[0] == 400


def test_a_refusal_names_the_setting():
    assert "listen.trusted_hosts" in PLAIN.refusal({b"host": b"a"}, frozenset())[1]
    headers = {b"host": b"localhost", b"origin": b"http://a"}
    assert "listen.trusted_origins" in PLAIN.refusal(headers, frozenset())[1]


def test_addresses_of_a_socket_unit_are_names_too():
    guard = Guard(Listen(), loopback=True, addresses=["127.0.0.2", "::1"])
    own = ("127.0.0.2:8080", "[::1]", "127.0.0.1")
    assert [status(guard, host) for host in (*own, "127.0.0.3")] == [200, 200, 200, 421]
    guard = Guard(Listen(trusted_hosts=("a.example",)), loopback=False, addresses=["192.0.2.5", "0.0.0.0", "::"])
    assert [status(guard, host) for host in ("192.0.2.5", "a.example", "0.0.0.0", "[::]")] == [200, 200, 421, 421]
