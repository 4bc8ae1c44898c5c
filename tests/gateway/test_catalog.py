from __future__ import annotations

import msgspec
import pytest

from mcpd.backends.base import Catalogue, Entry, Hint
from mcpd.config.model import Naming
from mcpd.errors import INVALID_PARAMS, RpcError
from mcpd.gateway.catalog import STALE, build, hint_of, shown
from mcpd.protocol.capabilities import ServerCapabilities
from mcpd.protocol.versions import MODERN, Version
from mcpd.supervisor.states import State
from mcpd.types import IMPLEMENTATION
from tests.gateway.fakes import FakeBackend, catalogue, entries, hello

LATEST = Version.V2025_11_25
NAMING = Naming()


def pages(listing, version=LATEST):
    """All pages, following cursors."""
    cursor, found = None, []
    while True:
        page = msgspec.json.decode(listing.page(cursor, version))
        found.append(page[listing.kind])
        cursor = page.get("nextCursor")
        if cursor is None:
            return found


def refused(listing, cursor):
    with pytest.raises(RpcError) as caught:
        listing.page(cursor, LATEST)
    return caught.value.code


def test_the_order_is_that_of_the_configuration_and_of_each_backend():
    backends = [
        FakeBackend("b", catalogue(tools=["z", "a"], prompts=["p"])),
        FakeBackend("a", catalogue(tools=["m"], resources=["file:///x"], resourceTemplates=["file:///{y}"])),
    ]
    catalog = build(backends, NAMING)
    assert list(catalog.tools.routes) == ["b_z", "b_a", "a_m"]
    assert list(catalog.prompts.routes) == ["b_p"]
    assert list(catalog.resources.routes) == ["file:///x"]
    assert list(catalog.resource_templates.routes) == ["file:///{y}"]
    assert catalog.tools.routes["b_z"].name == "z"
    assert bytes(catalog.tools.routes["b_z"].name_raw) == b'"z"'
    assert catalog.tools.routes["a_m"].backend is backends[1]
    assert catalog.of("resourceTemplates") is catalog.resource_templates


@pytest.mark.parametrize("version", [v for v in Version if v < Version.V2026_07_28])
def test_the_same_input_gives_the_same_bytes(version):
    def page():
        listed = Catalogue(tools=entries("tools", "x", "y", title="T", inputSchema={"b": 1, "a": 1.50}))
        backend = FakeBackend("s", listed)
        return build([backend], NAMING).tools.page(None, version)

    assert page() == page()


def test_every_byte_of_an_entry_but_its_name_stays():
    entry = Entry("x", b'{ "a" : 1.0e2,"name":"x","inputSchema":{"z":1,"b":[ ]},"x-vendor":null}')
    listed = Catalogue(tools=(entry,))
    page = build([FakeBackend("s", listed)], NAMING).tools.page(None, LATEST)
    assert page == b'{"tools":[{"a":1.0e2,"name":"s_x","inputSchema":{"z":1,"b":[ ]},"x-vendor":null}]}'
    assert shown("tools", entry, "x") is entry.raw


def test_an_empty_catalog_lists_nothing():
    catalog = build([], NAMING)
    assert catalog.tools.page(None, LATEST) == b'{"tools":[]}'
    assert catalog.resource_templates.page(None, LATEST) == b'{"resourceTemplates":[]}'


@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (2, [2]), (3, [3]), (4, [3, 1]), (9, [3, 3, 3])])
def test_pages(count, sizes):
    backend = FakeBackend("s", catalogue(tools=[f"t{n}" for n in range(count)]))
    listing = build([backend], Naming(page_size=3)).tools
    found = pages(listing)
    assert [len(page) for page in found] == sizes
    assert [tool["name"] for page in found for tool in page] == [f"s_t{n}" for n in range(count)]


def test_wrong_cursors_are_refused():
    backend = FakeBackend("s", catalogue(tools=[f"t{n}" for n in range(7)]))
    listing = build([backend], Naming(page_size=3)).tools
    cursor = msgspec.json.decode(listing.page(None, LATEST))["nextCursor"]
    digest = cursor.partition(".")[0]
    for wrong in (
        "",
        "x",
        ".",
        digest,
        f"{digest}.",
        f"{digest}.0",
        f"{digest}.1",
        f"{digest}.9",
        f"{digest}.-3",
        f"{digest}.٣",
        f"{digest}.3 ",
        f"{digest}.{'3' * 5000}",
        f"0{cursor}",
        "x" * 100_000,
    ):
        assert refused(listing, wrong) == INVALID_PARAMS
    assert len(msgspec.json.decode(listing.page(cursor, LATEST))["tools"]) == 3


def test_a_cursor_of_an_older_snapshot_is_refused():
    backend = FakeBackend("s", catalogue(tools=["a", "b"]))
    before = build([backend], Naming(page_size=1))
    cursor = msgspec.json.decode(before.tools.page(None, LATEST))["nextCursor"]
    backend.catalogue = catalogue(tools=["a", "c"])
    after = build([backend], Naming(page_size=1), before)
    assert refused(after.tools, cursor) == INVALID_PARAMS
    backend.catalogue = catalogue(tools=["a", "b"])
    assert b"s_b" in build([backend], Naming(page_size=1), after).tools.page(cursor, LATEST)


def test_entries_are_made_fit_for_older_clients():
    extras = {
        "title": "T",
        "icons": [],
        "_meta": {},
        "annotations": {"readOnlyHint": True},
        "outputSchema": {"type": "object"},
        "execution": {"taskSupport": "optional"},
        "vendor": 1,
    }
    backend = FakeBackend("s", Catalogue(tools=entries("tools", "x", **extras)))
    listing = build([backend], NAMING).tools

    def members(version):
        return set(msgspec.json.decode(listing.page(None, version))["tools"][0]) - {"name"}

    assert members(MODERN) == members(Version.V2025_11_25) == set(extras) - {"execution"}
    assert members(Version.V2025_06_18) == set(extras) - {"icons", "execution"}
    assert members(Version.V2025_03_26) == {"annotations", "vendor"}
    assert members(Version.V2024_11_05) == {"vendor"}


def test_the_first_backend_that_lists_a_resource_serves_it():
    backends = [
        FakeBackend("a", catalogue(resources=["x:1"])),
        FakeBackend("b", catalogue(resources=["x:1", "x:2"])),
    ]
    catalog = build(backends, NAMING)
    assert [route.backend.name for route in catalog.resources.routes.values()] == ["a", "b"]
    assert catalog.notes == ("b: 'x:1' is hidden, another backend lists it first",)


def test_changed_names_are_reported():
    catalog = build([FakeBackend("a", catalogue(tools=["x.y"], prompts=["x.y"]))], NAMING)
    assert len(catalog.notes) == 2


def test_only_what_differs_counts_as_changed():
    backend = FakeBackend("s", catalogue(tools=["a"], prompts=["p"]))
    kinds = ("tools", "prompts", "resources", "resourceTemplates")
    before = build([backend], NAMING)
    backend.catalogue = catalogue(tools=["a"], prompts=["q"])
    after = build([backend], NAMING, before)
    assert after.changed_since(before, kinds) == ("prompts",)
    assert build([backend], NAMING, after).changed_since(after, kinds) == ()


def test_an_unchanged_listing_keeps_its_rendered_pages():
    backend = FakeBackend("s", catalogue(tools=["a"]))
    before = build([backend], NAMING)
    page = before.tools.page(None, LATEST)
    assert build([backend], NAMING, before).tools.page(None, LATEST) is page


def test_what_clients_mirror_of_a_tools_arguments_is_read_from_its_schema():
    good = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    bad = {"type": "object", "properties": {"region": {"type": "array", "x-mcp-header": "Region"}}}
    listed = (
        entries("tools", "good", inputSchema=good) + entries("tools", "bad", inputSchema=bad) + entries("tools", "no")
    )
    routes = build([FakeBackend("s", Catalogue(tools=listed))], NAMING).tools.routes
    assert routes["s_good"].parameters.headers(b'{"region":"us"}') == [("Mcp-Param-Region", "us")]
    assert routes["s_good"].parameters is routes["s_good"].parameters, "read once"
    assert not routes["s_bad"].parameters
    assert not routes["s_no"].parameters


@pytest.mark.parametrize("spelled", [b'"execution"', b'"\\u0065xecution"'])
def test_how_a_tool_runs_is_between_mcpd_and_its_backend(spelled):
    entry = Entry("x", b'{"name":"x",%b:{"taskSupport":"required"},"z":1.0}' % spelled)
    assert shown("tools", entry, "x") == b'{"name":"x","z":1.0}'
    assert shown("tools", entry, "s_x") == b'{"name":"s_x","z":1.0}'
    assert shown("prompts", entry, "x") is entry.raw, "a prompt's member of that name is its own"


# ---- what modern clients are told about keeping lists


def test_a_modern_client_is_told_how_long_a_list_may_be_kept():
    backend = FakeBackend("s", catalogue(tools=[f"t{n}" for n in range(3)]))
    listing = build([backend], Naming(page_size=2)).tools
    first = msgspec.json.decode(listing.page(None, MODERN, Hint(60_000, public=True)))
    assert list(first) == ["resultType", "tools", "nextCursor", "ttlMs", "cacheScope", "_meta"]
    assert (first["resultType"], first["ttlMs"], first["cacheScope"]) == ("complete", 60_000, "public")
    info = first["_meta"]["io.modelcontextprotocol/serverInfo"]
    assert msgspec.json.encode(info) == IMPLEMENTATION
    last = msgspec.json.decode(listing.page(first["nextCursor"], MODERN, Hint(5, public=False)))
    assert (len(last["tools"]), last["ttlMs"], last["cacheScope"]) == (1, 5, "private")
    assert "nextCursor" not in last
    assert msgspec.json.decode(listing.page(None, MODERN))["ttlMs"] == 0
    assert set(msgspec.json.decode(listing.page(None, LATEST, Hint(9, public=True)))) == {"tools", "nextCursor"}


def test_an_empty_list_is_complete_too():
    page = msgspec.json.decode(build([], NAMING).prompts.page(None, MODERN))
    assert (page["resultType"], page["prompts"]) == ("complete", [])


MODERN_HELLO = hello(version=MODERN)


def hinted(name: str, ttl_ms: int, *, public: bool, **spec) -> FakeBackend:
    """A modern backend whose tools come with a hint."""
    backend = FakeBackend(name, Catalogue().with_kind("tools", entries("tools", "t"), Hint(ttl_ms, public)), **spec)
    backend.hello = MODERN_HELLO
    return backend


def test_a_list_may_be_kept_as_long_as_every_backend_announces_its_changes():
    one, other = FakeBackend("a"), FakeBackend("b")
    assert hint_of("tools", [one, other], 60_000) == Hint(60_000, public=False)
    other.hello = hello(ServerCapabilities(tools=True, prompts=True, prompts_list_changed=True))
    assert hint_of("tools", [one, other], 60_000) == Hint(0, public=False)
    assert hint_of("prompts", [one, other], 60_000) == Hint(60_000, public=False)
    # What it does not have at all cannot change.
    assert hint_of("resources", [one, other], 60_000) == Hint(60_000, public=False)


@pytest.mark.parametrize("state", [State.STARTING, State.BACKING_OFF, State.NEEDS_OPERATOR, State.STOPPED])
def test_a_list_that_a_backend_may_come_back_to_is_stale(state):
    one, other = FakeBackend("a"), FakeBackend("b")
    other.state = state
    assert hint_of("tools", [one, other], 60_000) == STALE
    other.state = State.DEGRADED
    assert hint_of("tools", [one, other], 60_000) == Hint(60_000, public=False)
    other.hello = None
    assert hint_of("tools", [one, other], 60_000) == STALE


def test_the_most_careful_backend_decides():
    short, long = hinted("a", 1_000, public=True), hinted("b", 90_000, public=True)
    assert hint_of("tools", [short, long], 60_000) == Hint(1_000, public=True)
    assert hint_of("tools", [long], 60_000) == Hint(60_000, public=True)
    assert hint_of("tools", [long, hinted("c", 5_000, public=False)], 60_000) == Hint(5_000, public=False)
    assert hint_of("tools", [long, FakeBackend("legacy")], 60_000) == Hint(60_000, public=False)
    silent = FakeBackend("d", catalogue(tools=["t"]))
    silent.hello = MODERN_HELLO
    assert hint_of("tools", [long, silent], 60_000) == Hint(60_000, public=False)
    assert hint_of("tools", [], 60_000) == Hint(60_000, public=False)
