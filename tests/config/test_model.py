"""The model: what may be shown of it, and that the schema, the sample and the model say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcpd.config.load import load
from mcpd.config.model import (
    Audit,
    Caching,
    Config,
    Control,
    Limits,
    Listen,
    Log,
    Naming,
    Resources,
    Restart,
    Sandbox,
    Secrets,
    ServerSpec,
    Stop,
    Streams,
    Timeouts,
    Tls,
)
from mcpd.config.shape import Shape, load_schema

ROOT = Path(__file__).parents[2]
SCHEMA = load_schema()
SERVER = SCHEMA["$defs"]["server"]
SECTIONS = {
    "listen": (Listen, SCHEMA["properties"]["listen"]),
    "naming": (Naming, SCHEMA["properties"]["naming"]),
    "limits": (Limits, SCHEMA["properties"]["limits"]),
    "streams": (Streams, SCHEMA["properties"]["streams"]),
    "caching": (Caching, SCHEMA["properties"]["caching"]),
    "control": (Control, SCHEMA["properties"]["control"]),
    "log": (Log, SCHEMA["properties"]["log"]),
    "audit": (Audit, SCHEMA["properties"]["audit"]),
    "timeouts": (Timeouts, SERVER["properties"]["timeouts"]),
    "restart": (Restart, SERVER["properties"]["restart"]),
    "stop": (Stop, SERVER["properties"]["stop"]),
    "tls": (Tls, SERVER["properties"]["tls"]),
    "resources": (Resources, SERVER["properties"]["resources"]),
    "sandbox": (Sandbox, SERVER["properties"]["sandbox"]),
}
ALIASES = {"type", "disabled"}
NESTED = {"timeouts", "restart", "stop", "tls", "resources", "sandbox"}
DEPENDS = {"transport", "instances", "idle_stop"}
"""Their default depends on whether there is a command or a url, or on when a server is started."""


def _same(default: Any, value: object) -> None:
    expected: object = tuple(default) if isinstance(default, list) else default
    assert expected == value
    assert type(expected) is type(value) or {type(expected), type(value)} == {int, float}


@pytest.mark.parametrize("section", SECTIONS)
def test_schema_and_model_have_the_same_keys_and_defaults(section):
    kind, schema = SECTIONS[section]
    assert list(schema["properties"]) == list(kind.__struct_fields__)
    for key, entry in schema["properties"].items():
        _same(entry["default"], getattr(kind(), key))


def test_schema_and_model_have_the_same_server():
    fields = set(ServerSpec.__struct_fields__)
    assert set(SERVER["properties"]) - ALIASES == fields - {"name"}
    spec = ServerSpec(name="a", transport="stdio")
    for key in fields - {"name"} - NESTED - DEPENDS:
        _same(SERVER["properties"][key]["default"], getattr(spec, key))


FOUND = {"source", "drop_ins", "origins", "conflicts", "problems", "secrets"}
"""What a configuration says of itself, and nobody sets."""


def test_the_top_of_the_schema_is_the_model():
    keys = set(SCHEMA["properties"]) - {"$schema", "mcpServers"}
    assert keys == set(Config.__struct_fields__) - FOUND
    assert SCHEMA["properties"]["instructions"]["default"] is Config().instructions


def test_every_default_is_within_its_own_bounds():
    shape = Shape(SCHEMA)
    for _, schema in SECTIONS.values():
        for key, entry in schema["properties"].items():
            assert shape.fits(entry, entry["default"]), key


def test_every_key_has_a_description():
    for _, schema in SECTIONS.values():
        assert all(entry["description"] for entry in schema["properties"].values())
    assert all(entry["description"] for entry in [*SERVER["properties"].values(), *SCHEMA["properties"].values()])


def test_the_sample_has_every_key_with_its_default():
    config = load(ROOT / "etc" / "mcpd.yaml", environ={})
    assert msgspec.structs.replace(config, servers=(), source="", origins={}, secrets=Secrets()) == Config()
    program, remote = config.servers
    chosen = {"name": "", "description": "", "command": None, "args": (), "url": None, "enabled": True}
    bare = ServerSpec(name="", transport="stdio")
    assert msgspec.structs.replace(program, **chosen) == bare
    assert msgspec.structs.replace(remote, **chosen, transport="stdio", instances="shared") == bare
    assert (program.instances, remote.transport, remote.instances) == ("shared", "auto", "per-session")
    text = (ROOT / "etc" / "mcpd.yaml").read_text()
    for name, (_, schema) in SECTIONS.items():
        assert f"{name}:" in text
        for key in schema["properties"]:
            assert f" {key}:" in text, key
    for key in set(SERVER["properties"]) - ALIASES:
        assert f" {key}:" in text, key


def test_repr_shows_no_values():
    spec = ServerSpec(
        name="a",
        transport="stdio",
        command="c0mmand",
        args=("arg-secret",),
        env={"KEY": "env-secret"},
        headers={"X-Key": "header-secret"},
        url="http://x/?q=url-secret",
    )
    config = Config(servers=(spec,), secrets=Secrets.of({"some-secret"}))
    for text in (repr(spec), str(spec), repr(config), f"{config}"):
        assert "secret" not in text.replace("secrets=Secrets(1)", "")
        assert "KEY" in text


@pytest.mark.parametrize(
    ("values", "text", "redacted"),
    [
        ({"hunter2000"}, "password=hunter2000;", "password=***;"),
        ({"short"}, "a short text", "a short text"),
        ({"abcdef", "abcdefghi"}, "abcdefghi abcdef", "*** ***"),
        ({" padded-value\n"}, "padded-value", "***"),
        ({"-----BEGIN KEY-----\nMIIEvQIBADANBgkqh\nabc\n"}, "line MIIEvQIBADANBgkqh", "line ***"),
        (set(), "nothing", "nothing"),
    ],
)
def test_redaction(values, text, redacted):
    assert Secrets.of(values).redact(text) == redacted


def test_prefix():
    spec = ServerSpec(name="calc", transport="stdio")
    assert spec.exposed_prefix(".") == "calc."
    assert msgspec.structs.replace(spec, prefix="").exposed_prefix(".") == ""
    assert msgspec.structs.replace(spec, prefix="w_").exposed_prefix(".") == "w_"


def test_server_by_name():
    spec = ServerSpec(name="calc", transport="stdio")
    config = Config(servers=(spec,))
    assert config.server("calc") is spec
    assert config.server("other") is None
