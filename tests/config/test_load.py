"""Whole files: what clients write works, what is wrong is told exactly, nothing else is ever raised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpd.config.faults import ConfigErrors
from mcpd.config.load import MAX_FILE, load, loads
from mcpd.config.model import Config, Restart, ServerSpec, Stop, Timeouts, Tls
from mcpd.errors import ConfigError

ROOT = Path(__file__).parents[2]
ENVIRON = {"TOKEN": "tok-12345", "PEM": "line one\nline two", "BAD": "\udcff"}


def _loads(text, name="c.yaml"):
    return loads(text, name=name, environ=ENVIRON)


def _servers(text):
    return _loads(text).servers


# --- what works ---


def test_a_clients_file_as_it_is():
    text = """{
      "mcpServers": {
        "calculator": {"transport": "stdio", "command": "python", "args": ["./tests/tools/calculator.py"]},
        "echo": {"command": "python", "args": ["./tests/tools/echo_server.py", "--name", "echo"]},
        "remote-echo": {"transport": "sse", "url": "http://127.0.0.1:9090/sse"},
        "other": {"transport": "streamable-http", "url": "http://127.0.0.1:9091/mcp",
                  "headers": {"Authorization": "Bearer abc"}}
      }
    }"""
    for name in ("c.json", "c.yaml"):
        config = _loads(text, name)
        calculator, echo, remote, other = config.servers
        assert calculator == ServerSpec(
            name="calculator", transport="stdio", command="python", args=("./tests/tools/calculator.py",)
        )
        assert (echo.transport, echo.instances, echo.cwd) == ("stdio", "shared", None)
        assert remote == ServerSpec(
            name="remote-echo", transport="sse", url="http://127.0.0.1:9090/sse", instances="per-session"
        )
        assert (other.transport, other.headers) == ("streamable-http", {"Authorization": "Bearer abc"})
        assert config.source == name


@pytest.mark.parametrize("text", ["", "{}", "mcpServers:\n", "listen:\nservers:\nlimits: {}\n"])
def test_nothing_is_the_default(text):
    assert _loads(text) == Config(source="c.yaml")


def test_every_setting_arrives():
    config = _loads("""
      listen:
        {host: "::1", port: 0, behind_authenticating_proxy: true, trusted_hosts: [.a.b], trusted_origins: [http://c]}
      naming: {separator: ".", name_max: 40, page_size: 10}
      limits: {body: 1MiB, session_idle: 1h, calls: 7}
      streams: {hold: 0, retry: 1.5s}
      caching: {list_ttl: 5s}
      extensions: [io.modelcontextprotocol/ui]
      instructions: Be kind.
      servers:
        a:
          command: x
          args: [y, "1"]
          env: {K: v}
          inherit_env: [HOME]
          cwd: /srv
          prefix: ""
          instances: per-session
          validate: both
          era: legacy
          description: d
          timeouts: {init: 2m, call_idle: 1, call_max: 2, list: 3, ask: 4}
          restart:
            {policy: never, initial: 1, factor: 1.5, cap: 10, jitter: 0, stable: 9, start_limit: 3,
             start_limit_interval: 0}
          stop: {eof: 0, term: 1, kill: 5}
          max_instances: 3
          instance_idle: 30s
        b:
          {url: "https://b/mcp?k=1", tls: {verify: false, ca: /ca, cert: /cert, key: /key}, enabled: false}
    """)
    listen = config.listen
    assert (listen.host, listen.port, listen.behind_authenticating_proxy) == ("::1", 0, True)
    assert (listen.trusted_hosts, listen.trusted_origins) == ((".a.b",), ("http://c",))
    assert (config.naming.separator, config.naming.name_max, config.naming.page_size) == (".", 40, 10)
    assert (config.limits.body, config.limits.session_idle, config.limits.calls) == (2**20, 3600.0, 7)
    assert (config.streams.hold, config.streams.retry, config.instructions) == (0, 1.5, "Be kind.")
    assert (config.caching.list_ttl, config.extensions) == (5.0, ("io.modelcontextprotocol/ui",))
    assert config.servers == (
        ServerSpec(
            name="a",
            transport="stdio",
            command="x",
            args=("y", "1"),
            env={"K": "v"},
            inherit_env=("HOME",),
            cwd="/srv",
            prefix="",
            instances="per-session",
            validate="both",
            era="legacy",
            description="d",
            timeouts=Timeouts(init=120, call_idle=1, call_max=2, list=3, ask=4),
            restart=Restart(
                policy="never", initial=1, factor=1.5, cap=10, jitter=0, stable=9, start_limit=3, start_limit_interval=0
            ),
            stop=Stop(eof=0, term=1, kill=5),
            max_instances=3,
            instance_idle=30,
        ),
        ServerSpec(
            name="b",
            transport="auto",
            url="https://b/mcp?k=1",
            tls=Tls(verify=False, ca="/ca", cert="/cert", key="/key"),
            enabled=False,
            instances="per-session",
        ),
    )


@pytest.mark.parametrize(
    ("entry", "transport", "enabled"),
    [
        ("{command: x, type: stdio}", "stdio", True),
        ("{command: x, transport: auto}", "stdio", True),
        ("{command: x, disabled: true}", "stdio", False),
        ("{command: x, disabled: false}", "stdio", True),
        ("{command: x, url: null}", "stdio", True),
        ("{url: http://a, type: http}", "streamable-http", True),
        ("{url: http://a, type: streamableHttp}", "streamable-http", True),
        ("{url: http://a, type: sse}", "sse", True),
        ("{url: http://a, transport: http}", "streamable-http", True),
        ("{url: ws://a}", "websocket", True),
        ("{url: WSS://a/b, transport: auto}", "websocket", True),
        ("{url: ws://a, type: websocket}", "websocket", True),
        ("{url: http://a}", "auto", True),
        ("{url: http://a, env: {}, args: [], cwd: null}", "auto", True),
    ],
)
def test_aliases_and_defaults(entry, transport, enabled):
    (spec,) = _servers(f"mcpServers: {{a: {entry}}}")
    assert (spec.transport, spec.enabled) == (transport, enabled)


def test_order_is_the_files():
    names = [f"s{number}" for number in (5, 3, 9, 1)]
    text = json.dumps({"mcpServers": {name: {"command": "x"} for name in names}})
    assert [spec.name for spec in _loads(text, "c.json").servers] == names


def test_values_of_env_and_headers_are_secrets():
    config = _loads("""
      mcpServers:
        a: {command: x, env: {KEY: env-value, PEM: "${PEM}", LC_ALL: en_US.UTF-8}, inherit_env: [TOKEN],
            args: [--api-key, arg-value, --token=opt-value, --verbose, plain-value]}
        b:
          url: "http://h/?api_key=url-value&page=plain-value"
          headers: {Authorization: Bearer header-value}
    """)
    text = "env-value line one tok-12345 arg-value opt-value url-value header-value plain-value en_US.UTF-8"
    assert config.secrets.redact(text) == "*** line one *** *** *** *** *** plain-value en_US.UTF-8"
    assert config.servers[0].env["PEM"] == "line one\nline two"


@pytest.mark.parametrize(
    "file", sorted(file for file in (ROOT / "examples").iterdir() if file.is_file()), ids=lambda file: file.name
)
def test_examples(file):
    config = load(file, environ={})
    assert config.servers
    if file.name == "weather.yaml":
        assert config.servers[0].exposed_prefix(config.naming.separator) == "weather_"
    if file.name == "dotted.yaml":
        assert config.servers[0].exposed_prefix(config.naming.separator) == "calculator."


def test_a_good_file_costs_no_jsonschema():
    code = (
        "import sys, pathlib; from mcpd.config.load import load;"
        "load(pathlib.Path(sys.argv[1]), environ={}); sys.exit('jsonschema' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(ROOT / "etc" / "mcpd.yaml")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


# --- what does not ---

BROKEN = [
    tuple(block.rsplit("\n=> ", 1))
    for block in (Path(__file__).parent / "broken.txt").read_text().rstrip("\n").split("\n\n")[1:]
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_broken(text, message):
    with pytest.raises(ConfigError) as caught:
        _loads(text)
    assert caught.value.exit_code == 78
    assert str(caught.value) == "c.yaml" + message


def test_all_faults_at_once_in_the_order_of_the_file():
    with pytest.raises(ConfigError) as caught:
        _loads(
            '{"servers": {\n"a": {"comand": "x"},\n"b": {"url": "ftp://h"},\n"c": {"url": "${X}"}},\n"x": 1}',
            "c.json",
        )
    assert [line.split(" ")[0] for line in str(caught.value).splitlines()] == [
        "c.json:2:",
        "c.json:3:",
        "c.json:4:",
        "c.json:5:",
    ]


def test_a_message_never_quotes_a_secret():
    with pytest.raises(ConfigError) as caught:
        _loads("listen: {port: '${TOKEN}'}\nlimits: {body: '${TOKEN}'}\nservers: {a: {url: '${TOKEN}'}}")
    assert "tok-12345" not in str(caught.value)


def test_files(tmp_path):
    file = tmp_path / "c.yaml"
    with pytest.raises(ConfigError, match=r"c\.yaml: cannot be read: No such file or directory \(--config FILE names"):
        load(file, environ={})
    file.write_bytes(b"\xef\xbb\xbfservers: {a: {command: x}}")
    assert load(file, environ={}).source == str(file)
    file.write_bytes(b"a: 1\nb: \xff")
    with pytest.raises(ConfigError, match=r"c\.yaml:2: not UTF-8 text"):
        load(file, environ={})
    file.write_bytes(b"#" * (MAX_FILE + 1))
    with pytest.raises(ConfigError, match="longer than"):
        load(file, environ={})
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, environ={})
    with pytest.raises(ConfigError, match="not a path"):
        load(Path("a\0b"), environ={})
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        _loads("a: \ud800")
    with pytest.raises(ConfigError, match="not valid Unicode"):
        _loads('{"instructions": "\\ud800"}', "c.json")


def _check_outcome(text, name):
    """It loads, or every fault names the file; any other exception fails the test."""
    try:
        faults = []
        source = _loads(text, name).source
    except ConfigErrors as problem:
        faults, source = problem.errors, name
    assert source == name
    assert all(str(fault).startswith(name) and "\n" not in str(fault) for fault in faults)


WORDS = st.sampled_from(
    [
        "mcpServers",
        "servers",
        "listen",
        "naming",
        "limits",
        "streams",
        "instructions",
        "a",
        "command",
        "url",
        "args",
        "env",
        "headers",
        "transport",
        "type",
        "tls",
        "timeouts",
        "restart",
        "stop",
        "init",
        "cap",
        "http://x",
        "http://[",
        "stdio",
        "sse",
        "ws://x",
        "websocket",
        "30s",
        "${TOKEN}",
        "${X}",
        "${",
        "$$",
        "16MiB",
        "Host",
    ]
)
TEXTS = WORDS | st.text(max_size=8)
GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(GARBAGE, st.sampled_from(["c.yaml", "c.json"]))
@settings(max_examples=150, deadline=None)
def test_garbage_is_a_config_error_or_a_config(tree, name):
    text = yaml.safe_dump(tree, allow_unicode=True) if name == "c.yaml" else json.dumps(tree)
    _check_outcome(text, name)


@given(st.text(max_size=60), st.sampled_from(["c.yaml", "c.json"]))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_config_error_or_a_config(text, name):
    _check_outcome(text, name)


SERVER_KEYS = ["command", "url", "args", "env", "headers", "transport", "type", "tls", "timeouts", "prefix"]
SERVER = st.fixed_dictionaries({}, optional=dict.fromkeys(SERVER_KEYS, GARBAGE))


@given(st.dictionaries(st.sampled_from(["a", "b", "-"]), SERVER, max_size=2))
@settings(max_examples=150, deadline=None)
def test_garbage_in_servers_is_a_config_error_or_a_config(servers):
    _check_outcome(yaml.safe_dump({"mcpServers": servers}, allow_unicode=True), "c.yaml")
