"""`mcpd`: command line → configuration → daemon → exit status (sysexits)."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import traceback
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import trio

from mcpd import __version__, log
from mcpd.config.options import (
    Options,
    control_socket,
    credentials_directory,
    overlay_file,
    parse,
    settle,
    state_directory,
)
from mcpd.config.plan import plan
from mcpd.config.sources import Sources
from mcpd.control.token import find_token
from mcpd.daemon import Daemon, tls_context
from mcpd.embedded import demo, elsewhere
from mcpd.errors import ConfigError, McpdError
from mcpd.reload import tell_oddities
from mcpd.supervisor.confinement import leave_no_core
from mcpd.systemd.manager import take
from mcpd.systemd.passed import Passed
from mcpd.upgrade.check import checking, show
from mcpd.upgrade.leap import LEAVING, arrive
from mcpd.welcome import welcome
from mcpd.wire.entrance import HTTP, check_exposure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.config.model import ServerSpec

STDERR: Final = 2


def main() -> None:
    """Run mcpd; ends the process."""
    open_standard_streams()
    # A watchdog that fires sends SIGABRT: this tells where the main loop was.
    faulthandler.enable()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run mcpd with these arguments and return its exit status."""
    manager = take(os.environ, pid=os.getpid())
    options = parse(arguments, version=__version__)
    if LEAVING in os.environ or checking(os.environ):
        # Before it holds anything that the program before was hiding.
        leave_no_core()
    try:
        # Who is taken over from has served over HTTP, and its program serves on.
        if LEAVING not in os.environ:
            options = settle(options, os.environ)
        sources = _sources(options)
        if options.check:
            config = sources.read().config
            if options.transport == "http":
                trio.run(check_exposure, config.listen)
            _look_at_tls(config.servers)
            sys.stdout.write(plan(config) + "\n")
            return 0
        trying = checking(os.environ)
        config = sources.read(lenient=True, set_aside=not trying).config
        if any(spec.sandbox.has_paths for spec in config.servers):
            leave_no_core()
        if trying:
            # With faults that a start would end with: after the exec nobody would go on.
            if HTTP not in dict(show(os.environ).listeners):
                trio.run(check_exposure, config.listen)
            _look_at_tls(spec for spec in config.servers if spec.enabled)
            return 0
        left = arrive()
        if left is not None:
            manager = replace(manager, passed=Passed(left.listeners))
        log.configure(options.log_level, config.secrets.redact, config.log.format)
        tell_oddities(config)
        if options.unsaid and options.transport == "stdio":
            remedy = "--transport http serves over HTTP"
            logging.getLogger("mcpd").info("event=stdio reason='stdin and stdout are pipes' remedy=%r", remedy)
        with ExitStack() as stack:
            greet = _greet if options.config is None else None
            state = _state_directory(options, stack)
            control = control_socket(options, config, os.environ, state)
            token = (
                partial(find_token, credentials=credentials_directory(os.environ))
                if options.transport != "stdio"
                else None
            )
            daemon = Daemon(
                config, state, manager=manager, control=control, sources=sources, greet=greet, left=left, token=token
            )
            trio.run(
                daemon.run_stdio if options.transport == "stdio" else daemon.run_http,
                strict_exception_groups=True,
            )
    except McpdError as error:
        log.complain(str(error))
        manager.notify.failed(str(error), error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        log.complain("internal error, please report what stands above")
        manager.notify.failed("internal error, see the journal", McpdError.exit_code)
        return McpdError.exit_code
    return 0


def open_standard_streams() -> None:
    """Have those that whoever started mcpd closed lead nowhere. Their numbers would be those of the next sockets and
    files otherwise, which then get what is written to stderr.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(fd, True)
    os.close(fd)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good


def _sources(options: Options) -> Sources:
    """Where the command line has the configuration."""
    return Sources(
        options.config,
        built_in=demo() if options.connect is None else elsewhere(options.connect),
        overlay=overlay_file(options, os.environ),
        environ=os.environ,
        credentials_directory=credentials_directory(os.environ),
        override=options.override,
    )


def _look_at_tls(servers: Iterable[ServerSpec]) -> None:
    """Read the files that each is trusted by. Raises: ConfigError."""
    for spec in servers:
        tls_context(spec)


def _state_directory(options: Options, stack: ExitStack) -> Path:
    """Where state goes. On stdio, which keeps hardly any, a directory of this run alone will do: desktop clients start
    their servers without HOME, or where it cannot be written. Raises: ConfigError.
    """
    try:
        path = state_directory(options, os.environ)
        if options.transport != "stdio" or options.state_dir is not None:
            return path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(path, os.W_OK | os.X_OK):
            return path
    except (ConfigError, OSError):
        if options.transport != "stdio" or options.state_dir is not None:
            raise
    path = Path(stack.enter_context(TemporaryDirectory(prefix="mcpd-")))
    logging.getLogger("mcpd").warning("event=no_state_directory using=%s until=the end of this run", path)
    return path


def _greet(url: str) -> None:
    try:
        sys.stdout.write(welcome(url))
        sys.stdout.flush()
    except OSError:
        pass  # nobody reads it, which is no reason not to serve


if __name__ == "__main__":
    main()
