"""The plan: exact text, no secrets, and the warnings."""

from __future__ import annotations

import pytest

from mcpd.config.load import loads
from mcpd.config.plan import IN_CGROUP, plan, target, warnings


def _load(text):
    return loads(text, name="c.yaml", environ={"TOKEN": "tok-12345"})


def test_the_plan():
    config = _load("""
      listen: {host: "::1", port: 8123}
      mcpServers:
        calc:
          command: python
          args: [-m, calc, --api-key, "${TOKEN}", "two words", ""]
          env: {SECRET: env-value}
          inherit_env: [HOME]
          timeouts: {init: 2m}
          restart: {policy: never}
          validate: both
        web:
          {url: "https://h.example/mcp?k=url-value", headers: {X-Key: header-value}, prefix: ""}
        old: {url: "https://h.example/sse", transport: sse, disabled: true}
    """)
    text = plan(config)
    assert text == (
        "configuration  c.yaml\n"
        "listen         http://[::1]:8123/mcp, /sse and /ws\n"
        "naming         separator '_', names up to 56 characters\n"
        "servers        2 and 1 disabled\n"
        "\n"
        "SERVER  TRANSPORT   PREFIX  INSTANCES    VALIDATE  REACHED BY\n"
        'calc    stdio       calc_   shared       both      python -m calc --api-key *** "two words" ""\n'
        "web     auto        (none)  per-session  off       https://h.example/mcp?***\n"
        "old     (disabled)  old_    per-session  off       https://h.example/sse\n"
        "\n"
        "calc: timeouts.init=120; restart.policy=never; env: SECRET, HOME\n"
        "web: headers: X-Key\n"
        "\n"
        "warning: old: disabled, so it is not started\n"
    )


def test_the_plan_of_nothing():
    text = plan(_load("listen: {port: 0}"))
    assert "listen         http://127.0.0.1:(a free port)/mcp, /sse and /ws\n" in text
    assert text.endswith("servers        0\n\nwarning: no servers: add some under 'mcpServers'\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("servers: {a: {command: x}}", []),
        (
            "naming: {name_max: 24}\nservers: {a: {command: x}}",
            [
                "naming.name_max 24 is small: many names will be cut and get a hash",
                "a: prefix 'a_' leaves 22 characters for names",
            ],
        ),
        (
            "naming: {name_max: 100}\nservers: {a: {command: x}}",
            ["naming.name_max 100: common clients refuse names longer than 64"],
        ),
        (
            "naming: {separator: '.'}\nservers: {a: {command: x}}",
            ["naming.separator '.': some clients refuse names with it; '_' is safe"],
        ),
        (
            "servers: {a.b: {command: x}, c: {command: x, prefix: d/}}",
            [
                "a.b: some clients refuse names with 'a.b_'; set 'prefix' to plain characters",
                "c: some clients refuse names with 'd/'; set 'prefix' to plain characters",
            ],
        ),
        (
            "servers: {a: {command: x}, b: {command: y, prefix: a_}, c: {command: y, disabled: true}}",
            [
                "b: same prefix 'a_' as a, so names may collide",
                "c: disabled, so it is not started",
            ],
        ),
        (
            "servers: {a: {url: 'https://h', tls: {verify: false}}}",
            ["a: tls.verify is false: anybody on the way can read and change everything"],
        ),
        (
            "servers: {a: {url: 'http://h', headers: {A: b}}}",
            ["a: headers go to another machine unencrypted; use https"],
        ),
        (
            "servers: {a: {url: 'ws://h', headers: {A: b}}}",
            ["a: headers go to another machine unencrypted; use wss"],
        ),
        ("servers: {a: {url: 'wss://h', headers: {A: b}}}", []),
        ("servers: {a: {url: 'http://[::1]:1/', headers: {A: b}}}", []),
        ("servers: {a: {url: 'http://x.localhost/', headers: {A: b}}}", []),
    ],
)
def test_warnings(text, expected):
    assert warnings(_load(text)) == expected


def test_what_confines_a_server_is_in_the_plan():
    text = """
servers:
  a:
    command: x
    user: nobody
    nice: -1
    resources: {memory_max: 64MiB, cpu_max: 0.5, limit_core: 0}
    sandbox: {no_new_privileges: true, read_only_paths: [/usr, /etc]}
  b: {command: y, sandbox: {no_new_privileges: false}, resources: {limit_nofile: 64}}
"""
    shown = plan(_load(text))
    assert (
        "a: resources.memory_max=67108864; resources.cpu_max=0.5; resources.limit_core=0; "
        "sandbox.read_only_paths=/usr,/etc; user=nobody; nice=-1\n"
    ) in shown
    assert "b: resources.limit_nofile=64; sandbox.no_new_privileges=false\n" in shown
    assert IN_CGROUP in shown
    assert IN_CGROUP not in plan(_load("servers: {b: {command: y, resources: {limit_nofile: 64}}}"))


def test_target_hides_control_characters_and_secrets():
    config = _load('servers: {a: {command: x, args: ["--key=${TOKEN}", "a\\nb\\u001b[2J"]}}')
    assert target(config.servers[0], config.secrets) == 'x --key=*** "a\\nb\\u001b[2J"'


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("", None),
        ("start: eager", None),
        ("start: lazy", "a: start=lazy; idle_stop=600"),
        ("start: lazy, idle_stop: 0", "a: start=lazy"),
        ("idle_stop: 2m", "a: idle_stop=120"),
    ],
)
def test_when_a_server_sleeps(fields, told):
    lines = plan(loads(f"servers: {{a: {{command: x, {fields}}}}}", name="c.yaml", environ={})).splitlines()
    assert [line for line in lines if line.startswith("a: ")] == ([told] if told else [])
