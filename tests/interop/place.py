"""Where a run's servers work: their files, their configuration, and a page to fetch.

Every server gets a mark in its environment, so that what a run started can be told from everything else on
the machine, and looked for when it should be gone.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.interop.packages import NODE_SERVERS, PYTHON_SERVERS, SQLITE_SERVER
from tests.packages import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.peer import JSON

MARK = "MCPD_INTEROP_PLACE"
SECRET = "MCPD_INTEROP_SECRET"
"""A variable of mcpd's own environment that no server may see."""
COMMIT = "The first commit of the interop run"
PAGE_TEXT = "Herons wait where the water is shallow."
PAGE = f"<html><head><title>Herons</title></head><body><article><p>{PAGE_TEXT}</p></article></body></html>"
GIT_LIMIT = 60.0


class Place:
    """A folder with everything that one mcpd and its servers need."""

    def __init__(self, folder: Path, page_url: str) -> None:
        folder = folder.resolve()  # server-filesystem compares resolved paths.
        self.folder = folder
        self.page_url = page_url
        self.files = folder / "files"
        self.repository = folder / "repository"
        self.config = folder / "mcpd.json"
        self.state = folder / "state"
        self.log = folder / "mcpd.log"

    def prepare(self) -> None:
        """Makes the files. Raises: SetupError when there is no git."""
        self.files.mkdir(parents=True)
        make_repository(self.repository)
        servers = self.servers()
        self.config.write_text(json.dumps({"mcpServers": servers}, indent=1))
        for name, entry in servers.items():
            self.config_alone(name).write_text(json.dumps({"mcpServers": {name: entry}}, indent=1))

    def servers(self) -> JSON:
        """The `mcpServers` of the configuration: nine servers, one of them again for each client alone."""
        everything = NODE_SERVERS.program("mcp-server-everything")
        repository = ["--repository", str(self.repository)]
        database = ["--db-path", str(self.folder / "interop.db")]
        table: dict[str, tuple[str, list[str]]] = {
            "everything": (everything, ["stdio"]),
            "filesystem": (NODE_SERVERS.program("mcp-server-filesystem"), [str(self.files)]),
            "memory": (NODE_SERVERS.program("mcp-server-memory"), []),
            "thinking": (NODE_SERVERS.program("mcp-server-sequential-thinking"), []),
            "playwright": (NODE_SERVERS.program("playwright-mcp"), ["--headless", "--isolated"]),
            "time": (PYTHON_SERVERS.program("mcp-server-time"), ["--local-timezone", "Etc/UTC"]),
            "git": (PYTHON_SERVERS.program("mcp-server-git"), repository),
            "fetch": (PYTHON_SERVERS.program("mcp-server-fetch"), ["--allow-private-ips"]),
            "sqlite": (SQLITE_SERVER.program("mcp-server-sqlite"), database),
            # What a shared server says outside every call belongs to no client in particular, and the roots
            # that this one asks for it keeps for ever; with a process for each client both can be checked.
            "own": (everything, ["stdio"]),
        }
        servers: JSON = {
            name: {"command": command, "args": arguments, "env": {MARK: str(self.folder)}}
            for name, (command, arguments) in table.items()
        }
        servers["memory"]["env"]["MEMORY_FILE_PATH"] = str(self.folder / "memory.json")
        servers["own"]["instances"] = "per-session"
        return servers

    def root(self, tag: str) -> str:
        """The URI of the one root that a visit's client has, and no other."""
        return (self.files / tag).as_uri()

    def config_alone(self, server: str) -> Path:
        """A configuration with this server only."""
        return self.folder / f"mcpd-{server}.json"

    def commands(self) -> dict[str, list[str]]:
        """Server → the argv of an mcpd on stdio with this server only."""
        return {name: self.command(self.config_alone(name)) for name in self.servers()}

    def command(self, config: Path | None = None) -> list[str]:
        """The argv of an mcpd on stdio, with all servers if not told otherwise, which adds its log to `log`."""
        mcpd = [sys.executable, "-m", "mcpd", "--config", str(config or self.config), "--transport", "stdio"]
        options = ["--state-dir", str(self.state), "--log-level", "info"]
        return ["sh", "-c", 'exec "$@" 2>>"$0"', str(self.log), *mcpd, *options]

    def processes(self) -> dict[int, str]:
        """Pid → command line of everything alive that was started for this place. Empty without /proc."""
        found: dict[int, str] = {}
        wanted = str(self.folder).encode()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                argv = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            ours = b"%s=%s" % (MARK.encode(), wanted) in environment.split(b"\0")
            if int(entry.name) != os.getpid() and argv and (ours or wanted + b"/" in argv):
                found[int(entry.name)] = argv.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def kill_processes(self) -> None:
        """Ends what is left over, after that was reported."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def make_repository(folder: Path) -> None:
    """A git repository with one commit and one file that is not added. Raises: SetupError."""
    git = shutil.which("git")
    if git is None:
        raise SetupError("git is needed, for mcp-server-git and its repository: install it, and run this again")
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("committed\n")
    # Neither the user's configuration nor the machine's: hooks and signing are no part of this.
    clean = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    author = ["-c", "user.name=Interop", "-c", "user.email=interop@localhost"]
    for command in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "notes.txt"],
        [*author, "commit", "--quiet", "-m", COMMIT],
    ):
        subprocess.run([git, *command], cwd=folder, check=True, timeout=GIT_LIMIT, env={**os.environ, **clean})
    (folder / "draft.txt").write_text("not added\n")


class Page(http.server.BaseHTTPRequestHandler):
    """One page; the rest, robots.txt among it, is not there."""

    def do_GET(self) -> None:
        found = self.path == "/herons.html"
        body = PAGE.encode() if found else b"not found"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html" if found else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def serve_page() -> Iterator[str]:
    """A loopback web server for the length of the block; its page's URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/herons.html"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
