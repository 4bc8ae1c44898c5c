from __future__ import annotations

import json

import msgspec
import pytest

from mcpd import __version__
from mcpd.config.model import Config, ServerSpec
from mcpd.frontends.management import Management
from mcpd.supervisor.states import State
from tests.frontends.fakes import FakeRequest


class Backend:
    def __init__(self, name: str, state: State, *, asleep: bool = False) -> None:
        self.name = name
        self.state = state
        self.asleep = asleep

    def describe(self) -> dict:
        return {"name": self.name, "state": self.state.value}


class Route:
    def __init__(self, backend: Backend, name: str) -> None:
        self.backend = backend
        self.name = name


class Listing:
    def __init__(self, routes: dict[str, Route]) -> None:
        self.routes = routes
        self.raws = [json.dumps({"name": name, "x": 1.0}).encode() for name in routes]


class Catalog:
    def __init__(self, tools: Listing) -> None:
        self._tools = tools

    def of(self, kind: str) -> Listing:
        assert kind == "tools"
        return self._tools


class Gateway:
    """Its snapshot is empty until it is flushed."""

    def __init__(self, *backends: Backend, judged: bool = True) -> None:
        self.backends = backends
        self.sessions = ["a", "b"]
        self.in_flight = 3
        names = [*(backend.name for backend in backends), "off"]
        servers = (ServerSpec(name=n, transport="stdio", command="x", enabled=n != "off") for n in names)
        self.config = Config(servers=tuple(servers))
        self.all_judged = judged
        self.catalog = Catalog(Listing({}))
        self.notices = self

    def flush(self) -> None:
        self.catalog = Catalog(Listing({f"{b.name}_t": Route(b, 't"') for b in self.backends}))


class Head:
    def __init__(self, method: bytes) -> None:
        self.method = method


async def ask(gateway: Gateway, route: str, method: bytes = b"GET") -> FakeRequest:
    request = FakeRequest()
    request.head = Head(method)

    async def admin(request) -> None:
        request.answer(299, b"", b"admin")

    await getattr(Management(gateway, admin), route)(request, None)
    return request


async def body(gateway: Gateway, route: str) -> tuple[int, dict]:
    [(status, headers, text)] = (await ask(gateway, route)).answers
    assert headers.startswith(b"Content-Type: application/json")
    return status, json.loads(text)


READY = Backend("a", State.READY)


@pytest.mark.parametrize("state", [state for state in State if state is not State.READY])
async def test_health_is_degraded_with_one_server_that_is_not_ready(state):
    assert await body(Gateway(READY, Backend("b", state)), "health") == (
        200,
        {
            "status": "degraded",
            "version": __version__,
            "servers": {"a": "ready", "b": state.value},
            "sessions": 2,
            "calls_in_flight": 3,
        },
    )


async def test_health_is_ok_when_all_are_ready():
    assert (await body(Gateway(READY), "health"))[1]["status"] == "ok"


async def test_one_that_sleeps_is_well():
    sleeping = Backend("b", State.STOPPED, asleep=True)
    status, answer = await body(Gateway(READY, sleeping), "health")
    assert (status, answer["status"], answer["servers"]) == (200, "ok", {"a": "ready", "b": "stopped"})


async def test_healthz_asks_nobody():
    assert await body(Gateway(Backend("b", State.BACKING_OFF)), "healthz") == (200, {"status": "ok"})


async def test_readyz_waits_for_the_first_verdict_of_all():
    starting = Backend("b", State.STARTING)
    status, answer = await body(Gateway(READY, starting, judged=False), "readyz")
    assert (status, answer) == (503, {"status": "starting", "waiting_for": ["b"]})
    for later in (State.BACKING_OFF, State.STARTING):
        status, answer = await body(Gateway(READY, Backend("b", later)), "readyz")
        assert (status, answer) == (200, {"status": "ready", "waiting_for": []})


async def test_servers_and_tools():
    gateway = Gateway(READY, Backend("b", State.NEEDS_OPERATOR))
    status, answer = await body(gateway, "servers")
    assert status == 200
    states = ["ready", State.NEEDS_OPERATOR.value, "disabled"]
    assert [each["state"] for each in answer["servers"]] == states
    status, answer = await body(gateway, "tools")
    assert answer["tools"][0] == {
        "name": "a_t",
        "server": "a",
        "tool": 't"',
        "definition": {"name": "a_t", "x": 1.0},
    }
    raw = (await ask(gateway, "tools")).answers[0][2]
    assert b'"x": 1.0' in raw, "definitions are as the backend gave them"
    assert msgspec.json.decode(raw)


@pytest.mark.parametrize("route", ["health", "healthz", "readyz", "servers", "tools"])
async def test_only_reading_is_allowed(route):
    allowed = b"Allow: GET, HEAD, POST\r\n" if route == "servers" else b"Allow: GET, HEAD\r\n"
    for method in (b"POST", b"DELETE", b"PUT", b"OPTIONS"):
        if method in allowed:
            continue  # see below
        [(status, headers, _)] = (await ask(Gateway(READY), route, method)).answers
        assert status == 405
        assert allowed in headers
    assert (await ask(Gateway(READY), route, b"HEAD")).answers[0][0] == 200


async def test_what_changes_something_is_somebody_elses():
    for route, method in (("servers", b"POST"), ("server", b"DELETE")):
        assert (await ask(Gateway(), route, method)).answers == [(299, b"", b"admin")]
    for method in (b"GET", b"POST", b"PUT"):
        [(status, headers, _)] = (await ask(Gateway(), "server", method)).answers
        assert (status, b"Allow: DELETE\r\n" in headers) == (405, True)
