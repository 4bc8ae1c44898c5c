"""The command line of `mcpd`, and which directory state goes to."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, cast, get_args

import msgspec

from mcpd.config.load import read_main
from mcpd.config.model import LogFormat
from mcpd.config.servers import as_table
from mcpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcpd.config.model import Config

Front = Literal["http", "stdio"]
LogLevel = Literal["debug", "info", "warning", "error"]

SYSTEM_CONFIG = Path("/etc/mcpd/mcpd.yaml")
"""Read when there is no `--config`; where it is missing too, the daemon has a default of its own."""
CONTROL = "control.sock"
OVERLAY = "overlay.json"
DEMO_OVERLAY = "overlay.demo.json"
EX_USAGE = 64
"""sysexits(3): the command line was wrong; systemd need not try again."""

_FRONTS: dict[str, Front] = {"http": "http", "stdio": "stdio", "sse": "http", "streamable-http": "http"}
_LEVELS: tuple[LogLevel, ...] = ("debug", "info", "warning", "error")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The command line. What is None was not given, and the configuration decides."""

    config: Path | None = None
    """None: no file at all; the daemon's embedded default."""
    host: str | None = None
    port: int | None = None
    transport: Front = "http"
    unsaid: bool = False
    """Nothing on the command line tells whether clients come over HTTP; see `settle`."""
    demo: bool = False
    connect: str | None = None
    """The URL of the one server, which is elsewhere."""
    state_dir: Path | None = None
    control_socket: Path | None = None
    check: bool = False
    log_level: LogLevel = "info"
    log_format: LogFormat | None = None

    def override(self, config: Config) -> Config:
        """The configuration with `--host`, `--port` and `--log-format` in place of its own."""
        host = config.listen.host if self.host is None else self.host
        port = config.listen.port if self.port is None else self.port
        listen = msgspec.structs.replace(config.listen, host=host, port=port)
        log = msgspec.structs.replace(config.log, format=self.log_format or config.log.format)
        return msgspec.structs.replace(config, listen=listen, log=log)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Usage goes to stderr: stdout may be a client's pipe."""
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser(version: str) -> argparse.ArgumentParser:
    """The parser, for `parse` and for the test that holds the manual page to it."""
    result = _Parser(prog="mcpd", description="One MCP server in front of many.", allow_abbrev=False, add_help=False)
    add = result.add_argument
    add("--config", type=Path, metavar="FILE", help=f"configuration, YAML or JSON (default: {SYSTEM_CONFIG})")
    add("--host", type=_host, metavar="HOST", help="listen on this address instead of the configured one")
    add("--port", type=_port, metavar="PORT", help="listen on this port instead of the configured one")
    add(
        "--transport",
        choices=sorted(_FRONTS),
        help="http ('sse' and 'streamable-http' mean it too), or stdio: one client on stdin and stdout",
    )
    add("--demo", action="store_true", help="run the demo servers that come with mcpd, whatever is configured")
    add("--connect", metavar="URL", help="be what is at this URL to one client on stdin and stdout")
    add("--state-dir", type=Path, metavar="DIR", help="keep state here")
    add(
        "--control-socket", type=Path, metavar="PATH", help="where mcpctl reaches mcpd, instead of the configured place"
    )
    add("--check", action="store_true", help="check the configuration, print the plan and exit")
    add("--log-level", choices=_LEVELS, default="info", help="default: info")
    add("--log-format", choices=get_args(LogFormat), help="write the log in this form instead of the configured one")
    add("--version", action="version", version=f"mcpd {version}", help="print the version and exit")
    add("--help", "-h", action="help", help="print this and exit")
    return result


def parse(arguments: Sequence[str], *, version: str, system_config: Path = SYSTEM_CONFIG) -> Options:
    """Read the command line, without the program's name.

    Raises: SystemExit, with EX_USAGE for a wrong command line and 0 after `--help` and `--version`.
    """
    given = parser(version).parse_args(arguments)
    config = cast("Path | None", given.config)
    if given.demo and config is not None:
        parser(version).error("--demo and --config exclude each other")
    if given.connect is not None:
        others = {"--config": config, "--host": given.host, "--port": given.port, "--demo": given.demo or None}
        if wrong := [name for name, value in others.items() if value is not None]:
            parser(version).error(f"--connect and {wrong[0]} exclude each other")
        if given.transport not in (None, "stdio"):
            parser(version).error(f"--connect serves one client on stdin and stdout, not --transport {given.transport}")
        given.transport = "stdio"
    elif config is None and not given.demo and _is_there(system_config):
        config = system_config
    return Options(
        config=config,
        host=given.host,
        port=given.port,
        transport=_FRONTS[given.transport or "http"],
        unsaid=given.config is not None and (given.transport, given.host, given.port) == (None, None, None),
        demo=given.demo,
        connect=given.connect,
        state_dir=given.state_dir,
        control_socket=given.control_socket,
        check=given.check,
        log_level=given.log_level,
        log_format=given.log_format,
    )


def settle(options: Options, environ: Mapping[str, str], *, streams: tuple[int, int] = (0, 1)) -> Options:
    """The options, with stdio for a client that starts mcpd as it starts any server, by a command and a file of
    servers: both standard streams lead to another program, and neither the command line nor the file speaks of
    listening. Service managers lead them elsewhere, but for supervisord, which has a variable to be known by.

    Raises: ConfigErrors.
    """
    if not options.unsaid or options.config is None or not all(map(_leads_to_a_program, streams)):
        return options
    # What is no file can be read only once, and that comes later.
    if "SUPERVISOR_ENABLED" in environ or not options.config.is_file():
        return options
    if "listen" in as_table(read_main(options.config).document.value):
        return options
    return msgspec.structs.replace(options, transport="stdio")


def state_directory(options: Options, environ: Mapping[str, str]) -> Path:
    """Where state goes: `--state-dir`, else what systemd made, else the user's own. Makes nothing.

    Raises: ConfigError, when nothing tells.
    """
    if options.state_dir is not None:
        return options.state_dir
    # systemd.exec(5): several directories of one unit are joined by colons; the first one is ours.
    by_systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if by_systemd:
        return Path(by_systemd)
    by_user = environ.get("XDG_STATE_HOME", "")
    if Path(by_user).is_absolute():  # the XDG specification: a relative path is to be ignored
        return Path(by_user) / "mcpd"
    home = environ.get("HOME", "")
    if Path(home).is_absolute():
        return Path(home) / ".local" / "state" / "mcpd"
    raise ConfigError("no directory for state", remedy="give --state-dir DIR, or set STATE_DIRECTORY or HOME")


def credentials_directory(environ: Mapping[str, str]) -> Path | None:
    """Where the service manager has put secrets, if it has (systemd.exec(5))."""
    path = environ.get("CREDENTIALS_DIRECTORY")
    return Path(path) if path else None


def overlay_file(options: Options, environ: Mapping[str, str]) -> Path | None:
    """Where changes that were made while mcpd ran are kept; None: nowhere.

    The demo has a file of its own. On stdio, where clients run many and end them, the state directory is shared with
    others unless it was chosen for this one.
    """
    if options.transport == "stdio" and options.state_dir is None:
        return None
    try:
        return state_directory(options, environ).absolute() / (DEMO_OVERLAY if options.demo else OVERLAY)
    except ConfigError:
        return None  # which ends the start, where it is needed


def control_socket(
    options: Options, config: Config, environ: Mapping[str, str], state: Path
) -> tuple[Path, bool] | None:
    """Where operators reach mcpd, and whether it is an error if they cannot: a place that somebody chose for this mcpd
    must be had, one that several of a user's might want need not be. A relative one begins at the configuration's file.

    None: nowhere. On stdio that is so unless it is asked for: a client may run many, and ends them itself.
    """
    if options.control_socket is not None:
        return options.control_socket.absolute(), True
    if config.control.socket is not None:
        return Path(config.source).absolute().parent / config.control.socket, True
    if options.transport == "stdio":
        return None
    by_systemd = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if by_systemd:
        return Path(by_systemd) / CONTROL, True
    by_user = environ.get("XDG_RUNTIME_DIR", "")
    if Path(by_user).is_absolute():
        return Path(by_user) / "mcpd" / CONTROL, False
    return state.absolute() / CONTROL, False


def _leads_to_a_program(fd: int) -> bool:
    """Whether it is a pipe or a socket; false of one that is closed."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _is_there(path: Path) -> bool:
    """Anything but a clear no is a yes: a file out of reach is to be an error, not a silent default."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is not a port: 0 to 65535")
    return int(text)


def _host(text: str) -> str:
    if not text or any(char.isspace() or char in "/\0" for char in text):
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is not an address or host name")
    return text
