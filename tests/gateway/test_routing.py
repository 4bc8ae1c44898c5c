from __future__ import annotations

import msgspec
import pytest

from mcpd.config.model import Naming
from mcpd.errors import INVALID_PARAMS, RESOURCE_NOT_FOUND, UnknownName
from mcpd.gateway.catalog import build
from mcpd.gateway.routing import LINKS_MAX, Router
from mcpd.protocol.capabilities import ServerCapabilities
from mcpd.protocol.uritemplate import URI_MAX
from mcpd.supervisor.states import State
from tests.gateway.fakes import FakeBackend, catalogue, hello


def router_of(*backends: FakeBackend) -> Router:
    router = Router(backends)
    router.use(build(backends, Naming()))
    return router


def links(*uris: object) -> bytes:
    blocks = [{"type": "resource_link", "name": "n", "uri": uri} for uri in uris]
    return msgspec.json.encode({"content": [{"type": "text", "text": "x"}, *blocks]})


def owner(router: Router, uri: str) -> str | None:
    try:
        return router.resource(uri).name
    except UnknownName:
        return None


def test_a_resource_of_nobody_is_named_in_the_error():
    with pytest.raises(UnknownName) as caught:
        router_of().resource('x:"1"')
    assert caught.value.code == RESOURCE_NOT_FOUND
    assert caught.value.data == b'{"uri":"x:\\"1\\""}'


def test_names_go_by_the_table_only():
    backend = FakeBackend("a_b", catalogue(tools=["c"], prompts=["p"]))
    router = router_of(backend, FakeBackend("a", catalogue(tools=["b_d"])))
    assert router.named("tools", "a_b_c").backend is backend
    assert router.named("tools", "a_b_d").backend.name == "a"
    assert router.named("prompts", "a_b_p").name == "p"
    for kind, name in (("tools", "c"), ("tools", "a_b_p"), ("prompts", "a_b_c"), ("tools", "")):
        with pytest.raises(UnknownName) as caught:
            router.named(kind, name)
        assert caught.value.code == INVALID_PARAMS
        assert caught.value.message == f"Unknown {kind[:-1]}: {name}"


def test_an_unknown_name_says_who_is_not_there_yet():
    sleeping = FakeBackend("sleeping")
    sleeping.state, sleeping.asleep = State.STOPPED, True
    router = router_of(FakeBackend("up"), FakeBackend("slow", takes=9.0), sleeping)
    with pytest.raises(UnknownName, match=r"Unknown tool: slow_x \(not ready yet: slow\)"):
        router.named("tools", "slow_x")


def test_a_listed_resource_goes_to_the_first_that_lists_it():
    router = router_of(
        FakeBackend("a", catalogue(resources=["x:1"])),
        FakeBackend("b", catalogue(resources=["x:1", "x:2"], resourceTemplates=["x:{id}"])),
    )
    assert owner(router, "x:1") == "a"
    assert owner(router, "x:2") == "b"
    assert owner(router, "x:3") == "b"
    assert owner(router, "y:1") is None


def test_the_most_specific_template_wins_then_the_first():
    router = router_of(
        FakeBackend("wide", catalogue(resourceTemplates=["db://{+rest}"])),
        FakeBackend("narrow", catalogue(resourceTemplates=["db://users/{id}"])),
        FakeBackend("late", catalogue(resourceTemplates=["db://{+path}"])),
    )
    assert owner(router, "db://users/7") == "narrow"
    assert owner(router, "db://users/7/posts") == "wide"
    assert owner(router, "db://x") == "wide"


def test_a_link_in_a_result_leads_to_who_linked():
    first, second = FakeBackend("a"), FakeBackend("b")
    router = router_of(first, second)
    assert owner(router, "file:///x") is None
    router.learn(links("file:///x", "file:///y"), second)
    assert owner(router, "file:///x") == "b"
    router.learn(links("file:///x"), first)
    assert owner(router, "file:///x") == "a"
    assert owner(router, "file:///y") == "b"


def test_links_are_bounded_and_the_oldest_go():
    backend = FakeBackend("a")
    router = router_of(backend, FakeBackend("b"))
    router.learn(links("old:1", "old:2"), backend)
    router.learn(links(*(f"x:{n}" for n in range(LINKS_MAX - 1))), backend)
    router.learn(links("old:2"), backend)
    assert owner(router, "old:1") is None
    assert owner(router, "old:2") == "a"
    assert len(router._linked) == LINKS_MAX
    router.learn(links("x:" + "y" * URI_MAX), backend)
    assert owner(router, "x:" + "y" * URI_MAX) is None


@pytest.mark.parametrize(
    "result",
    [
        b'"resource_link"',
        b'{"x":"resource_link"}',
        b'{"content":{"type":"resource_link"}}',
        b'{"content":["resource_link",5]}',
        b'{"content":[{"type":"resource_link"}]}',
        b'{"content":[{"type":"resource_link","uri":5}]}',
        b'{"content":[{"type":"resource_link","uri":"\xff"}]}',
        b'{"content":[{"type":"resource_link","uri":"\\ud800"}]}',
        b'{"content":[{"type":"resource_link","uri":"a:b"',
        b'{"content":' + b"[" * 100_000 + b'"resource_link"',
    ],
)
def test_results_of_another_shape_teach_nothing(result):
    router = router_of(FakeBackend("a"), FakeBackend("b"))
    router.learn(result, router._backends[0])
    assert router._linked == {}


def test_the_only_backend_with_resources_gets_what_nobody_listed():
    tools_only = FakeBackend("t")
    tools_only.hello = hello(ServerCapabilities(tools=True))
    assert owner(router_of(tools_only, FakeBackend("r")), "any:1") == "r"
    assert owner(router_of(FakeBackend("a"), FakeBackend("r")), "any:1") is None
    assert owner(router_of(tools_only), "any:1") is None
    assert owner(router_of(), "any:1") is None


def test_a_template_is_completed_by_who_lists_it():
    router = router_of(
        FakeBackend("a", catalogue(resourceTemplates=["x:{id}"])),
        FakeBackend("b", catalogue(resourceTemplates=["y:{id}"])),
    )
    assert router.template("y:{id}").name == "b"
    assert router.template("x:7").name == "a"
    with pytest.raises(UnknownName) as caught:
        router.template("z:{id}")
    assert caught.value.code == INVALID_PARAMS


def test_a_new_snapshot_routes_anew():
    backend = FakeBackend("a", catalogue(tools=["old"], resourceTemplates=["x:{id}"]))
    other = FakeBackend("b")
    router = router_of(backend, other)
    backend.catalogue = catalogue(tools=["new"])
    router.use(build((backend, other), Naming()))
    assert router.named("tools", "a_new")
    with pytest.raises(UnknownName):
        router.named("tools", "a_old")
    assert owner(router, "x:1") is None
