from __future__ import annotations

import pytest

from mcpd.wire.http_url import WEBSOCKET, parse_url


@pytest.mark.parametrize(
    ("text", "host", "port", "target", "authority"),
    [
        ("http://h", "h", 80, b"/", b"h"),
        ("https://h/mcp?a=b#c", "h", 443, b"/mcp?a=b", b"h"),
        ("http://H.Example:8080/x/", "h.example", 8080, b"/x/", b"h.example:8080"),
        ("http://[::1]:99/", "::1", 99, b"/", b"[::1]:99"),
        ("https://[::1]", "::1", 443, b"/", b"[::1]"),
        ("https://h:443?q", "h", 443, b"/?q", b"h"),
        ("https://h:80/", "h", 80, b"/", b"h:80"),
    ],
)
def test_urls(text, host, port, target, authority):
    url = parse_url(text)
    assert (url.host, url.port, url.target, url.authority) == (host, port, target, authority)
    assert url.origin == (text.partition(":")[0], host, port)
    assert parse_url(str(url)) == url


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "http://"),
        ("h/mcp", "http://"),
        ("ftp://h/", "not 'ftp'"),
        ("http:///x", "no host"),
        ("http://h:99999/", "cannot be read"),
        ("http://h:x/", "cannot be read"),
        ("http://h:0/", "port is 0"),
        ("http://[::1/", "cannot be read"),
        ("http://user:hunter2@h/", "user name or password"),
        ("http://h/a b", "space"),
        ("http://h/\r\nX: y", "space"),
        ("http://h\x00/", "invisible"),
        ("http://h/\xe9", "percent-encoded"),
        ("http://m\xfcller/", "xn--"),
        ("http://h<x>/", "not a name"),
    ],
)
def test_what_is_not_a_url(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_url(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "port", "authority"),
    [("ws://h", 80, b"h"), ("wss://h/x?y", 443, b"h"), ("WS://h:80", 80, b"h"), ("wss://[::1]:80/", 80, b"[::1]:80")],
)
def test_urls_of_websockets(text, port, authority):
    url = parse_url(text, WEBSOCKET)
    assert (url.port, url.authority) == (port, authority)
    with pytest.raises(ValueError, match=r"must begin with http:// or https://, not 'wss?'"):
        parse_url(text)


def test_a_url_for_http_is_none_for_websockets():
    with pytest.raises(ValueError, match=r"must begin with ws:// or wss://, not 'http'"):
        parse_url("http://h/", WEBSOCKET)
