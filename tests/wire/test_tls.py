from __future__ import annotations

import ssl
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from mcpd.errors import ConfigError, ConnectFailed
from mcpd.wire.deadlines import Deadlines
from mcpd.wire.http_client import ClientLimits, HttpClient
from mcpd.wire.http_url import parse_url
from mcpd.wire.tls import client_context

FOLDER = Path(__file__).parents[1] / "fixtures" / "tls"
CERT = str(FOLDER / "cert.pem")
KEY = str(FOLDER / "key.pem")

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsafe"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsafe\r\n0\r\n\r\n"


async def serve(*, task_status, answer=ANSWER, client_ca=None, requests=1000, host="127.0.0.1"):
    """A TLS server that answers whatever comes with the same bytes."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
    context.load_cert_chain(CERT, KEY)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED

    async def handle(raw):
        stream = trio.SSLStream(raw, context, server_side=True, https_compatible=True)
        async with stream:
            try:
                for _ in range(requests):
                    if not await stream.receive_some(65536):
                        return
                    await stream.send_all(answer)
            except trio.BrokenResourceError:
                return

    listeners = await trio.open_tcp_listeners(0, host=host)
    await trio.serve_listeners(handle, listeners, task_status=task_status)


def url_of(listeners):
    return parse_url(f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")


@pytest.mark.parametrize("answer", [ANSWER, CHUNKED])
async def test_requests_over_tls_reuse_the_connection(nursery, answer):
    url = url_of(await nursery.start(partial(serve, answer=answer)))
    client = HttpClient(tls=client_context(ca_file=CERT), deadlines=Deadlines())
    for _ in range(3):
        response = await client.request(url, b"POST", b"", (b"x" * 500, b"y"))
        assert await response.read() == b"safe"
    assert client.statistics().connects == 1
    await client.aclose()


async def test_a_server_that_closes_between_requests(nursery):
    url = url_of(await nursery.start(partial(serve, requests=1)))
    client = HttpClient(tls=client_context(verify=False), deadlines=Deadlines())
    for _ in range(2):
        response = await client.request(url, b"GET", b"")
        assert await response.read() == b"safe"
        await trio.testing.wait_all_tasks_blocked()
    assert client.statistics().connects == 2
    await client.aclose()


async def test_an_untrusted_certificate_says_what_to_do(nursery):
    url = url_of(await nursery.start(serve))
    client = HttpClient(deadlines=Deadlines())
    with pytest.raises(ConnectFailed, match=r"not trusted.*tls\.ca "):
        await client.request(url, b"GET", b"")
    assert client.statistics().connections == 0


async def test_a_wrong_host_name_is_not_trusted(nursery):
    # The certificate names 127.0.0.1 and localhost; all of 127.0.0.0/8 reaches a listener on every address.
    listeners = await nursery.start(partial(serve, host="0.0.0.0"))
    url = parse_url(f"https://127.0.0.2:{listeners[0].socket.getsockname()[1]}/")
    client = HttpClient(tls=client_context(ca_file=CERT), deadlines=Deadlines())
    with pytest.raises(ConnectFailed, match="for another name") as caught:
        await client.request(url, b"GET", b"")
    assert caught.value.kind == "tls-wrong-name"


async def test_a_port_that_does_not_speak_tls(nursery):
    async def plain(stream):
        async with stream:
            await stream.receive_some(10)
            await stream.send_all(b"HTTP/1.1 400 no\r\n\r\n")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def run(task_status):
        await trio.serve_listeners(plain, listeners, task_status=task_status)

    await nursery.start(run)
    client = HttpClient(tls=client_context(verify=False), deadlines=Deadlines())
    with pytest.raises(ConnectFailed, match="speak TLS"):
        await client.request(url_of(listeners), b"GET", b"")


async def test_a_handshake_that_never_ends(nursery, autojump_clock):
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = HttpClient(limits=ClientLimits(connect_timeout=5), tls=client_context(verify=False), deadlines=Deadlines())
    with pytest.raises(ConnectFailed, match="TLS handshake took over 5 s"):
        await client.request(url_of(listeners), b"GET", b"")
    for listener in listeners:
        await listener.aclose()


async def test_a_client_certificate_is_shown(nursery):
    url = url_of(await nursery.start(partial(serve, client_ca=CERT)))
    client = HttpClient(tls=client_context(ca_file=CERT, client_cert=CERT, client_key=KEY), deadlines=Deadlines())
    response = await client.request(url, b"GET", b"")
    assert await response.read() == b"safe"
    await client.aclose()


@pytest.mark.parametrize("field", ["ca_file", "client_cert"])
@pytest.mark.parametrize("text", [None, "not PEM"])
def test_bad_files_are_configuration_errors(tmp_path, field, text):
    path = tmp_path / "file.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"file\.pem"):
        client_context(**{field: str(path)})


def test_the_module_itself_does_not_load_ssl():
    source = Path(sys.modules["mcpd.wire.tls"].__file__ or "").read_text()
    assert "\nimport ssl" not in source
