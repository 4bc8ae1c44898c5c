"""The configuration as frozen values: every setting, its unit and its default. No I/O, no parsing.

Times are seconds (float), sizes are bytes (int). The defaults here are the ones that count: `schema.json`,
`etc/mcpd.yaml` and the manual page repeat them, and tests hold them equal.
"""

from __future__ import annotations

import json
from typing import Literal

import msgspec

from mcpd.config.origins import Conflict, Origin  # noqa: TC001 - msgspec reads the annotations below
from mcpd.redaction import REDACTED, redact_tokens

Transport = Literal["stdio", "streamable-http", "sse", "websocket", "auto"]
Instances = Literal["shared", "leased", "per-session", "per-principal"]
Start = Literal["eager", "lazy"]
EraSetting = Literal["auto", "legacy", "modern"]
Validate = Literal["off", "arguments", "results", "both"]
LogFormat = Literal["text", "json"]
AuditCalls = Literal["off", "metadata", "arguments"]
Policy = Literal["always", "on-failure", "never"]
Look = Literal["everyone", "operators"]

KIB = 1024
MIB = 1024 * KIB
MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR

LAZY_IDLE_STOP = 10 * MINUTE
"""Seconds after which a lazy server is stopped, where nothing else is said. As long as `instance_idle`, for the same
reason: longer than a person thinks between two turns of a conversation, so that the start is paid once for all of it;
much shorter than a working day, for which nobody wants to hold the memory of every server that was used once."""

SECRET_MIN = 6
"""Shorter values are not redacted: `1`, `true` or `debug` would blank out ordinary words and hide nothing."""


class Secrets(msgspec.Struct, frozen=True):
    """Values that must not be shown: what was substituted into the file, and `env` and `headers` values."""

    values: tuple[str, ...] = ()
    """Longest first, so that a secret which contains another one is replaced whole."""

    @classmethod
    def of(cls, values: set[str]) -> Secrets:
        """Keep what is long enough to be worth hiding."""
        kept = {value.strip() for value in values}
        # JSON, and a message that quotes it, may write one in another way.
        kept |= {form for v in kept for form in (json.dumps(v)[1:-1], repr(v)[1:-1])}
        # Output is redacted line by line, so the lines of a longer secret (a PEM file) count by themselves.
        kept |= {line for v in kept if "\n" in v for line in v.splitlines() if len(line) >= 16 and line[0] != "-"}
        return cls(tuple(sorted((v for v in kept if len(v) >= SECRET_MIN), key=lambda v: (-len(v), v))))

    def redact(self, text: str) -> str:
        """The text with every secret replaced by `***`, and whatever else looks like one."""
        for value in self.values:
            if value in text:
                text = text.replace(value, REDACTED)
        return redact_tokens(text)

    def __repr__(self) -> str:
        return f"Secrets({len(self.values)})"


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """Where the HTTP fronts listen and which requests they believe."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 lets the kernel choose, for tests."""
    behind_authenticating_proxy: bool = False
    """The operator's word that something in front authenticates; without it only loopback is listened on."""
    trusted_hosts: tuple[str, ...] = ()
    """Accepted in Host besides the loopback names; `.example.org` means that domain and all below it."""
    trusted_origins: tuple[str, ...] = ()
    """Not refused, besides loopback origins, e.g. `https://chat.example.org`. mcpd sends no CORS headers."""


class Naming(msgspec.Struct, frozen=True, kw_only=True):
    """How tools and prompts of many backends become the names of one server."""

    separator: str = "_"
    """Between server and tool name where a server sets no prefix. Many clients refuse all but `_` and `-`."""
    name_max: int = 56
    """Characters; clients accept 64 and some put a prefix of their own in front."""
    page_size: int = 500
    """Entries of one page of a list."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what one client, one backend and all of them together may cost."""

    body: int = 32 * MIB
    """One request body, or WebSocket message, from a client."""
    head: int = 32 * KIB
    """One HTTP head, request line and headers together."""
    message: int = 64 * MIB
    """One line, body or WebSocket message from a backend; results are larger than arguments."""
    sessions: int = 10_000
    """Sessions in memory. Only idle ones are dropped, and those are resurrected when they are used again."""
    session_idle: float = 30 * MINUTE
    """An idle session leaves memory after this long and comes back when it is used; what a per-session server kept for
    it ends."""
    session_age: float = 30 * DAY
    """A session id is refused after this long, so that a leaked one ends by itself."""
    connections: int = 4096
    calls: int = 2048
    """In flight in all; one more is refused at once."""
    calls_per_session: int = 256
    streams_per_session: int = 16
    """Streams kept for `Last-Event-ID`; open ones are bounded by `calls_per_session`."""
    stream_queue: int = 8 * MIB
    """Unsent bytes of one event stream; a client that reads more slowly than this loses the stream. On a WebSocket, and
    on stdio, such a client is not read from until it has caught up."""
    replay_events: int = 256
    """Events of one stream kept for `Last-Event-ID`."""
    replay_bytes: int = 4 * MIB
    subscriptions: int = 1024
    """Resources that one session, or one listening request, may be subscribed to."""
    parks: int = 4096
    """Calls of clients without a session that wait for their client's input."""
    park_time: float = 10 * MINUTE
    """Such a call waits at most this long, and less than `timeouts.ask` of its server; then it is cancelled."""
    listens: int = 1024
    """Open requests of clients without a session that listen for news."""
    spawn_concurrency: int = 8
    """Children that start up at the same time; the others wait, and their timeouts begin when it is their turn."""


class Streams(msgspec.Struct, frozen=True, kw_only=True):
    """Timing of event streams to clients."""

    keepalive: float = 15.0
    """A comment after this much silence, a ping on a WebSocket: proxies cut a silent stream after 30 to 125 s."""
    hold: float = 0.1
    """An answer that takes longer than this is sent as an event stream instead of plain JSON."""
    retry: float = 0.5
    """What the `retry:` field tells a client to wait before it reconnects."""
    poll_after: float = 0.0
    """End a 2025-11-25 client's stream after this long, its call going on, so that it polls; 0 = never."""
    list_changed_delay: float = 0.05
    """Changes of the catalogue within this time become one notification."""


class Shutdown(msgspec.Struct, frozen=True, kw_only=True):
    """The end of mcpd."""

    grace: float = 20.0
    """Calls in flight get this long to end: nearly all take less, and systemd is told to wait as long."""


class Caching(msgspec.Struct, frozen=True, kw_only=True):
    """What clients of 2026-07-28 on are told about keeping answers."""

    list_ttl: float = MINUTE
    """How long a list may be kept. Less where a server says less; 0 where a change might not be announced."""


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """How operators reach mcpd."""

    socket: str | None = None
    """The path of the control socket; None: where `config.options.control_socket` says."""
    look: Look = "everyone"
    """Who may ask what mcpd does: everyone who can connect, or those alone who may also change it."""


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What mcpd writes to stderr. To the journal it writes in the journal's own form, whatever is said here."""

    format: LogFormat = "text"
    """`text`: `key=value`, for people and grep; `json`: one object a line, for collectors."""


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded of calls."""

    calls: AuditCalls = "metadata"
    """A line for each call: `metadata` says who, what, how it ended, how long it took and how much it was; `arguments`
    also what it was made with, which may be anybody's secret; `off` writes none."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long mcpd waits for one backend."""

    init: float = 60.0
    """From start or connect to the end of the handshake; `npx` and `uvx` download first."""
    call_idle: float = 60.0
    """A call without answer or progress; any progress starts it again."""
    call_max: float = 1800.0
    """A call in all, progress or not."""
    list: float = 30.0
    """One page of a list."""
    ask: float = 600.0
    """A question of the backend to the client (sampling, elicitation, roots); people answer some of them."""


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """When a backend that ended is started again. Delays grow to `cap`, and trying goes on at the cap."""

    policy: Policy = "always"
    initial: float = 0.2
    factor: float = 2.0
    cap: float = 300.0
    jitter: float = 0.2
    """Share of the delay that is random, 0 to 0.9."""
    stable: float = 30.0
    """Ready for this long: the next failure starts at `initial` again."""
    start_limit: int = 20
    """Starts within `start_limit_interval`; after so many it is tried at the pace of `cap`, until it was stable."""
    start_limit_interval: float = 600.0
    """0: no limit."""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """How long a child is given after each step of being stopped."""

    eof: float = 2.0
    """After its stdin was closed."""
    term: float = 2.0
    """After SIGTERM to its process group."""
    kill: float = 2.0
    """After SIGKILL, for the kernel to report the end."""


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """How an https or wss backend is trusted and how mcpd shows itself to it. Paths of PEM files."""

    verify: bool = True
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What one child may use; None: as much as there is. The first three are the kernel's memory.max, pids.max and
    cpu.max of a cgroup, for all its processes together; the others systemd's LimitNOFILE= and so on, for each."""

    memory_max: int | None = None
    pids_max: int | None = None
    cpu_max: float | None = None
    """Processors; 0.5 is half of one."""
    limit_nofile: int | None = None
    limit_nproc: int | None = None
    """Counts everything that the user runs."""
    limit_core: int | None = None
    limit_fsize: int | None = None
    limit_cpu: int | None = None
    """Seconds."""
    limit_as: int | None = None
    limit_data: int | None = None
    limit_stack: int | None = None
    limit_memlock: int | None = None

    @property
    def of_cgroup(self) -> dict[str, float]:
        """What is set of those that need one."""
        values = {"memory_max": self.memory_max, "pids_max": self.pids_max, "cpu_max": self.cpu_max}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def of_processes(self) -> tuple[tuple[str, int], ...]:
        """What is set of the others, with the kernel's soft and hard limit the same."""
        values = ((name, getattr(self, name)) for name in self.__struct_fields__ if name.startswith("limit_"))
        return tuple((name, value) for name, value in values if value is not None)


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """What a child may do and see. The paths are systemd's: the longest that fits decides, the rest stays as it is."""

    no_new_privileges: bool = True
    """Unlike systemd's default: a server runs what a model makes up, and set-user-ID programs are the usual way from
    there to root. The few that need one (sudo, snap, rootless podman) are told apart in a line."""
    read_only_paths: tuple[str, ...] = ()
    read_write_paths: tuple[str, ...] = ()
    inaccessible_paths: tuple[str, ...] = ()

    @property
    def has_paths(self) -> bool:
        """Whether it restricts what of the file system the child sees."""
        return bool(self.read_only_paths or self.inaccessible_paths)


class ServerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One backend as configured. Two specs that are equal need no restart between them."""

    name: str
    transport: Transport
    """`auto`: an http or https url whose transport is found out by probing; ws and wss say what they are."""
    command: str | None = None
    """Looked up in PATH of the child's environment. Set if, and only if, the transport is stdio."""
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    inherit_env: tuple[str, ...] = ()
    """Names that are passed through from mcpd's own environment."""
    cwd: str | None = None
    """None: the directory mcpd was started in."""
    user: str | None = None
    group: str | None = None
    umask: str | None = None
    """Octal."""
    nice: int | None = None
    resources: Resources = Resources()
    sandbox: Sandbox = Sandbox()
    url: str | None = None
    headers: dict[str, str] = {}
    prefix: str | None = None
    """None: the name followed by the separator; the empty string: names as the backend gives them."""
    instances: Instances = "shared"
    """The loader's default is `shared` for stdio and `per-session` for everything remote."""
    start: Start = "eager"
    """`lazy`: not with mcpd, but by the first call that needs it, if it is known from an earlier run what it lists."""
    idle_stop: float = 0.0
    """Stopped after it was of no use for so long, and started again by the next call; 0 = never. The loader's default
    is LAZY_IDLE_STOP for a lazy server."""
    era: EraSetting = "auto"
    """`auto`: the server is asked which versions of MCP it speaks, and the newest is used."""
    validate: Validate = "off"
    enabled: bool = True
    description: str = ""
    timeouts: Timeouts = Timeouts()
    restart: Restart = Restart()
    stop: Stop = Stop()
    tls: Tls = Tls()
    max_instances: int = 64
    """Processes or backend sessions of a server that is `per-session`, `per-principal` or `leased`."""
    instance_idle: float = 600.0
    """An instance that served nobody for this long is ended."""

    @property
    def apart(self) -> bool:
        """Whether sessions, or principals, have instances of their own."""
        return self.instances in ("per-session", "per-principal")

    def exposed_prefix(self, separator: str) -> str:
        """What is put in front of this backend's names."""
        return f"{self.name}{separator}" if self.prefix is None else self.prefix

    def __repr__(self) -> str:
        """Names and the transport only: command line, url, env and headers may hold secrets."""
        return (
            f"ServerSpec(name={self.name!r}, transport={self.transport!r}, instances={self.instances!r}, "
            f"env={sorted(self.env)}, headers={sorted(self.headers)}, enabled={self.enabled})"
        )


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration, checked. It is replaced, never edited."""

    listen: Listen = Listen()
    naming: Naming = Naming()
    limits: Limits = Limits()
    servers: tuple[ServerSpec, ...] = ()
    """In the order of the file, which is the order of every list that clients see."""
    streams: Streams = Streams()
    shutdown: Shutdown = Shutdown()
    caching: Caching = Caching()
    control: Control = Control()
    log: Log = Log()
    audit: Audit = Audit()
    extensions: tuple[str, ...] = ()
    """Identifiers of protocol extensions (`vendor.example/name`) that modern clients and servers may use through mcpd,
    besides tasks, which mcpd understands."""
    instructions: str | None = None
    """Put before the backends' instructions."""
    watch: bool = False
    """Reload when the main file, or one of the directory of servers, has changed."""
    source: str = ""
    """The main file it came from, for messages."""
    drop_ins: tuple[str, ...] = ()
    """The other files, in their order."""
    origins: dict[str, Origin] = {}
    """Where each server comes from, by name."""
    conflicts: tuple[Conflict, ...] = ()
    """What of the overlay has no effect."""
    problems: tuple[str, ...] = ()
    """What is wrong with the overlay and did not keep mcpd from starting; each with its remedy."""
    secrets: Secrets = Secrets()

    def server(self, name: str) -> ServerSpec | None:
        """The server of that name."""
        return next((spec for spec in self.servers if spec.name == name), None)

    @property
    def oddities(self) -> tuple[str, ...]:
        """What somebody should look at, a line each."""
        return (*self.problems, *map(str, self.conflicts))
