from __future__ import annotations

import msgspec
import pytest

from mcpd.config.diff import FIXED, IN_PLACE, LIVE, Plan, changed_keys, diff, effective, flatten, is_live
from mcpd.config.load import loads
from mcpd.config.model import Caching, Config, Limits, Listen, Naming, Restart, ServerSpec, Timeouts, Tls


def server(name: str, **members) -> ServerSpec:
    return ServerSpec(name=name, transport="stdio", **{"command": "true", **members})


def config(*servers: ServerSpec, **members) -> Config:
    return Config(servers=servers, **members)


A, B, C = server("a"), server("b"), server("c")


@pytest.mark.parametrize(
    ("before", "after", "plan"),
    [
        ((A, B), (A, B), Plan(unchanged=("a", "b"))),
        ((), (A, B), Plan(added=("a", "b"))),
        ((A, B), (), Plan(removed=("a", "b"))),
        ((A, C), (A, B, C), Plan(added=("b",), unchanged=("a", "c"))),
        ((A, B), (B, A), Plan(unchanged=("b", "a"), reordered=True)),
        ((A, B, C), (A, C), Plan(removed=("b",), unchanged=("a", "c"))),
        ((A,), (server("a", args=("x",)),), Plan(changed={"a": ("args",)})),
        ((A,), (server("a", prefix=""),), Plan(adjusted={"a": ("prefix",)})),
        (
            (A,),
            (server("a", prefix="", timeouts=Timeouts(init=1, ask=2)),),
            Plan(changed={"a": ("prefix", "timeouts.init", "timeouts.ask")}),
        ),
        ((A,), (server("a", restart=Restart(cap=9)),), Plan(changed={"a": ("restart.cap",)})),
        ((A,), (server("a", env={"K": "other"}),), Plan(changed={"a": ("env",)})),
        # Another name is another server, whatever else is the same.
        ((A,), (server("z"),), Plan(added=("z",), removed=("a",))),
        # A disabled server is none.
        ((A, B), (A, server("b", enabled=False)), Plan(removed=("b",), unchanged=("a",))),
        ((server("a", enabled=False),), (A,), Plan(added=("a",))),
        ((server("a", enabled=False),), (server("a", enabled=False, args=("x",)),), Plan()),
        ((server("a", enabled=False),), (), Plan()),
    ],
)
def test_servers(before, after, plan):
    assert diff(config(*before), config(*after)) == plan


def test_a_change_of_everything_says_each_key_once():
    other = ServerSpec(name="a", transport="sse", url="https://x.example", tls=Tls(ca="/ca.pem"))
    keys = changed_keys(A, other)
    assert keys == ("transport", "command", "url", "tls.ca")
    assert set(keys) < set(flatten(A))


def test_a_map_that_only_one_has_is_named_with_all_that_is_in_it():
    class Inner(msgspec.Struct, frozen=True):
        x: int = 0
        y: int = 0

    class Outer(msgspec.Struct, frozen=True):
        inner: Inner | None = None

    assert changed_keys(Outer(), Outer(Inner())) == ("inner.x", "inner.y", "inner")
    assert changed_keys(Outer(Inner(1, 2)), Outer(Inner(1, 3))) == ("inner.y",)


def test_settings_that_apply_and_those_that_do_not():
    before = config()
    after = config(
        listen=Listen(port=1, trusted_hosts=("x",)),
        naming=Naming(separator="."),
        limits=Limits(calls=7, session_age=5.0),
        caching=Caching(list_ttl=1.0),
        extensions=("a.example/x",),
        instructions="hello",
    )
    plan = diff(before, after)
    assert set(plan.settings) == {"naming.separator", "limits.calls", "caching.list_ttl", "extensions", "instructions"}
    assert set(plan.needs_restart) == {"listen.port", "listen.trusted_hosts", "limits.session_age"}
    assert not plan.empty


def test_what_needs_a_restart_keeps_its_value_and_is_named_until_it_came():
    before = config(A, listen=Listen(port=1), limits=Limits(calls=5, session_age=9.0))
    wanted = config(B, listen=Listen(port=2), limits=Limits(calls=6, session_age=8.0), instructions="x", source="f")
    now = effective(before, wanted)
    assert now == config(
        B, listen=Listen(port=1), limits=Limits(calls=6, session_age=9.0), instructions="x", source="f"
    )
    again = diff(now, wanted)
    assert again == Plan(unchanged=("b",), needs_restart=("listen.port", "limits.session_age"))
    assert again.empty, "there is nothing to do"
    assert diff(now, now) == Plan(unchanged=("b",))


def test_where_the_file_is_and_its_secrets_are_no_settings():
    text = '{"mcpServers": {"a": {"command": "x"}}, "instructions": "${WORD}"}'
    one = loads(text, name="one.json", environ={"WORD": "secret-word"})
    two = loads(text, name="two.json", environ={"WORD": "secret-word"})
    three = loads(text, name="two.json", environ={"WORD": "another-word"})
    assert diff(one, two) == Plan(unchanged=("a",))
    assert diff(two, three) == Plan(unchanged=("a",), settings=("instructions",))
    assert effective(one, three).secrets.redact("another-word") == "***"


def test_the_tables_name_what_there_is():
    assert set(ServerSpec.__struct_fields__) >= IN_PLACE
    assert set(Config.__struct_fields__) >= LIVE
    names = {f"{section}.{key}" for section in LIVE for key in _fields(section)}
    assert names >= FIXED
    assert not is_live("something.new")
    assert not is_live("servers")


def test_each_setting_applies_or_does_not_and_somebody_has_thought_about_it():
    """A new one is put here by who has made it apply (`Reloader.settings`, `gateway.succession`), or into FIXED."""
    live = {f"{section}.{key}" for section in LIVE for key in _fields(section)} - FIXED
    assert live == {
        *(f"naming.{key}" for key in ("separator", "name_max", "page_size")),
        *(f"limits.{key}" for key in LIMITS),
        *(f"streams.{key}" for key in ("keepalive", "hold", "retry", "poll_after", "list_changed_delay")),
        "shutdown.grace",
        "caching.list_ttl",
        "control.look",
        "log.format",
        "audit.calls",
        *(f"shutdown.{key}" for key in ("grace",)),
    }


LIMITS = [
    "body",
    "head",
    "message",
    "sessions",
    "session_idle",
    "connections",
    "calls",
    "calls_per_session",
    "streams_per_session",
    "stream_queue",
    "replay_events",
    "replay_bytes",
    "subscriptions",
    "parks",
    "park_time",
    "listens",
    "spawn_concurrency",
]


def _fields(section: str) -> tuple[str, ...]:
    value = getattr(Config(), section)
    return value.__struct_fields__ if isinstance(value, msgspec.Struct) else ()


def test_the_log_line_names_names_and_no_values():
    before = config(A, server("gone"))
    after = config(server("a", env={"K": "hunter2"}), server("new"), server("other"), listen=Listen(port=5))
    line = "added=new,other changed=a removed=gone needs_restart=listen.port unchanged=0"
    assert str(diff(before, after)) == line
    assert str(Plan(unchanged=("a", "b"))) == "unchanged=2"
