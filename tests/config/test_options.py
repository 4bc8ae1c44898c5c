"""The command line and the state directory."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mcpd.config.model import Config, Control
from mcpd.config.options import Options, control_socket, parse, settle, state_directory
from mcpd.errors import ConfigError


def _parse(*arguments, system_config=Path("/no/such/file")):
    return parse(arguments, version="1.2.3", system_config=system_config)


def test_nothing_given():
    assert _parse() == Options()


def test_everything_given():
    options = _parse(
        *[
            "--config",
            "c.yaml",
            "--host",
            "::1",
            "--port",
            "0",
            "--transport",
            "stdio",
            "--state-dir",
            "s",
            "--check",
            "--log-level",
            "debug",
        ]
    )
    assert options == Options(
        config=Path("c.yaml"),
        host="::1",
        port=0,
        transport="stdio",
        state_dir=Path("s"),
        check=True,
        log_level="debug",
    )


@pytest.mark.parametrize(
    ("name", "front"), [("http", "http"), ("sse", "http"), ("streamable-http", "http"), ("stdio", "stdio")]
)
def test_transports(name, front):
    assert _parse("--transport", name).transport == front


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "65536"],
        ["--port", "-1"],
        ["--port", "1" * 5000],
        ["--port", "٣"],
        ["--host", ""],
        ["--host", "a b"],
        ["--transport", "websocket"],
        ["--log-level", "loud"],
        ["--conf", "x"],
        ["--config"],
        ["file"],
    ],
)
def test_a_wrong_command_line_is_status_64_and_leaves_stdout_alone(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        _parse(*arguments)
    assert caught.value.code == 64
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "usage: mcpd" in shown.err
    assert "(see mcpd --help)" in shown.err


@pytest.mark.parametrize(
    ("option", "text"), [("--version", "mcpd 1.2.3\n"), ("--help", "usage: mcpd"), ("-h", "usage:")]
)
def test_version_and_help(option, text, capsys):
    with pytest.raises(SystemExit) as caught:
        _parse(option)
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(text)


def test_the_systems_file_is_used_when_it_is_there(tmp_path):
    file = tmp_path / "mcpd.yaml"
    assert _parse(system_config=file).config is None
    file.touch()
    assert _parse(system_config=file).config == file
    assert _parse("--config", "x", system_config=file).config == Path("x")
    assert _parse(system_config=file / "below-a-file").config is None


def test_a_systems_file_out_of_reach_is_not_passed_over(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert _parse(system_config=loop).config == loop


def test_override():
    config = Config()
    assert Options().override(config) == config
    listen = Options(host="::1", port=0).override(config).listen
    assert (listen.host, listen.port) == ("::1", 0)
    assert Options(port=9).override(config).listen.host == config.listen.host


@pytest.mark.parametrize(
    ("environ", "directory"),
    [
        ({"STATE_DIRECTORY": "/var/lib/mcpd", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/var/lib/mcpd"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ({"STATE_DIRECTORY": "", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/mcpd"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/mcpd"),
        ({"HOME": "/h"}, "/h/.local/state/mcpd"),
    ],
)
def test_state_directory(environ, directory):
    assert state_directory(Options(), environ) == Path(directory)
    assert state_directory(Options(state_dir=Path("given")), environ) == Path("given")


def test_no_state_directory():
    with pytest.raises(ConfigError, match="no directory for state"):
        state_directory(Options(), {})


@pytest.mark.parametrize(
    ("given", "configured", "environ", "found"),
    [
        (["--control-socket", "/o/c"], "/c/c", {"RUNTIME_DIRECTORY": "/run/mcpd"}, ("/o/c", True)),
        ([], "/c/c", {"RUNTIME_DIRECTORY": "/run/mcpd"}, ("/c/c", True)),
        ([], "c", {}, ("/etc/mcpd/c", True)),
        (
            [],
            None,
            {"RUNTIME_DIRECTORY": "/run/mcpd:/run/x", "XDG_RUNTIME_DIR": "/r"},
            ("/run/mcpd/control.sock", True),
        ),
        ([], None, {"XDG_RUNTIME_DIR": "/r"}, ("/r/mcpd/control.sock", False)),
        ([], None, {"XDG_RUNTIME_DIR": "r"}, ("/state/control.sock", False)),
        ([], None, {}, ("/state/control.sock", False)),
        (["--transport", "stdio"], None, {"RUNTIME_DIRECTORY": "/run/mcpd"}, None),
        (["--transport", "stdio"], "/c/c", {}, ("/c/c", True)),
        (["--transport", "stdio", "--control-socket", "/o/c"], None, {}, ("/o/c", True)),
    ],
)
def test_where_operators_reach_it(given, configured, environ, found):
    options = parse(given, version="1", system_config=Path("/nonexistent"))
    config = Config(control=Control(socket=configured), source="/etc/mcpd/mcpd.yaml")
    place = control_socket(options, config, environ, Path("/state"))
    assert place == (None if found is None else (Path(found[0]), found[1]))


SERVERS = '{"mcpServers": {"a": {"command": "x"}}}'


@pytest.fixture
def pipes():
    """A pipe's reading end and a socket."""
    reader, writer = os.pipe()
    one, two = socket.socketpair()
    with one, two:
        yield reader, one.fileno()
    os.close(reader)
    os.close(writer)


def _settled(tmp_path, pipes, *arguments, text=SERVERS, environ=None):
    file = tmp_path / "servers.json"
    file.write_text(text)
    options = _parse("--config", str(file), *arguments)
    return settle(options, environ or {}, streams=pipes).transport


def test_who_starts_it_like_any_server_is_a_client_on_stdio(tmp_path, pipes):
    assert _settled(tmp_path, pipes) == "stdio"
    assert _settled(tmp_path, pipes, "--log-level", "debug", "--state-dir", "s") == "stdio"


@pytest.mark.parametrize(
    "arguments", [["--transport", "http"], ["--transport", "sse"], ["--port", "0"], ["--host", "127.0.0.1"]]
)
def test_who_speaks_of_http_gets_it(arguments, tmp_path, pipes):
    assert _settled(tmp_path, pipes, *arguments) == "http"


def test_so_does_whose_file_speaks_of_listening_and_whom_supervisord_started(tmp_path, pipes):
    assert _settled(tmp_path, pipes, text='{"listen": {"port": 1}, "mcpServers": {}}') == "http"
    assert _settled(tmp_path, pipes, environ={"SUPERVISOR_ENABLED": "1"}) == "http"


def test_so_does_whose_streams_lead_to_a_file_or_nowhere(tmp_path, pipes):
    with (tmp_path / "out").open("wb") as file, open(os.devnull, "rb") as null:
        assert _settled(tmp_path, (null.fileno(), pipes[0])) == "http"
        assert _settled(tmp_path, (pipes[0], file.fileno())) == "http"
    assert _settled(tmp_path, (pipes[0], 1 << 20)) == "http"


def test_without_a_file_of_its_own_it_is_the_daemon(tmp_path, pipes):
    system = tmp_path / "mcpd.yaml"
    system.write_text(SERVERS)
    for options in (_parse(system_config=system), _parse("--demo")):
        assert settle(options, {}, streams=pipes) == options
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    options = _parse("--config", str(fifo))
    assert settle(options, {}, streams=pipes) == options, "which was not read"


def test_what_is_elsewhere_is_for_one_client_on_stdin(tmp_path, capsys):
    system = tmp_path / "mcpd.yaml"
    system.write_text(SERVERS)
    options = _parse("--connect", "http://h/mcp", system_config=system)
    assert (options.connect, options.config, options.transport) == ("http://h/mcp", None, "stdio")
    assert _parse("--connect", "http://h/mcp", "--transport", "stdio") == _parse("--connect", "http://h/mcp")
    for others in (["--config", "c"], ["--demo"], ["--port", "0"], ["--host", "h"], ["--transport", "http"]):
        with pytest.raises(SystemExit) as caught:
            _parse("--connect", "http://h/mcp", *others)
        assert caught.value.code == 64
        assert others[0] in capsys.readouterr().err.splitlines()[-1]
