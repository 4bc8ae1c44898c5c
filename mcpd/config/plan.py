"""What `mcpd --check` prints: the configuration as mcpd understood it, without secrets, and its oddities."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from mcpd.config.model import Resources, Restart, Sandbox, Stop, Timeouts
from mcpd.redaction import REDACTED

if TYPE_CHECKING:
    from mcpd.config.model import Config, Secrets, ServerSpec

COLUMNS = ("SERVER", "TRANSPORT", "PREFIX", "INSTANCES", "VALIDATE", "REACHED BY")
PORTABLE = re.compile(r"[A-Za-z0-9_-]*")
"""What every client accepts in a name."""
NAME_MAX_LOW = 32
"""Under this most names of common servers get cut."""
NAME_MAX_HIGH = 64
"""Over this common clients refuse a name, and with it the whole list."""
ROOM = 24
"""Characters a prefix should leave to a tool's own name; most names are shorter."""


IN_CGROUP = (
    "note: resources.memory_max, pids_max and cpu_max need a cgroup that is delegated to mcpd, as mcpd.service has "
    "one; where there is none, the log says so when mcpd starts"
)


def plan(config: Config) -> str:
    """The whole plan, without values of `env` and `headers`, and with secrets in arguments redacted."""
    listen, naming = config.listen, config.naming
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    port = "(a free port)" if listen.port == 0 else listen.port
    lines = [
        f"configuration  {config.source or '(built in)'}",
        *(f"               {file}" for file in _further_files(config)),
        f"listen         http://{host}:{port}/mcp, /sse and /ws",
        f"naming         separator '{naming.separator}', names up to {naming.name_max} characters",
        f"servers        {_count(config)}",
    ]
    if config.servers:
        lines += ["", *_table(config), *_details(config)]
    if any(each.resources.of_cgroup for each in config.servers):
        lines += ["", IN_CGROUP]
    notes = warnings(config)
    if notes:
        lines += ["", *(f"warning: {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _further_files(config: Config) -> list[str]:
    added = [origin.file for origin in config.origins.values() if origin.added is not None]
    return [*config.drop_ins, *dict.fromkeys(added)]


def warnings(config: Config) -> list[str]:
    """What is allowed and yet probably not meant, one line each, in the order of the file."""
    naming = config.naming
    notes: list[str] = [*config.oddities]
    if not config.servers:
        notes.append("no servers: add some under 'mcpServers'")
    if naming.name_max < NAME_MAX_LOW:
        notes.append(f"naming.name_max {naming.name_max} is small: many names will be cut and get a hash")
    if naming.name_max > NAME_MAX_HIGH:
        notes.append(f"naming.name_max {naming.name_max}: common clients refuse names longer than {NAME_MAX_HIGH}")
    if not PORTABLE.fullmatch(naming.separator):
        notes.append(f"naming.separator '{naming.separator}': some clients refuse names with it; '_' is safe")
    owners: dict[str, str] = {}
    for spec in config.servers:
        if not spec.enabled:
            notes.append(f"{spec.name}: disabled, so it is not started")
            continue
        prefix = spec.exposed_prefix(naming.separator)
        if prefix in owners:
            notes.append(f"{spec.name}: same prefix '{prefix}' as {owners[prefix]}, so names may collide")
        owners.setdefault(prefix, spec.name)
        notes += (f"{spec.name}: {note}" for note in _server_notes(spec, prefix, naming.name_max))
        own = prefix.removesuffix(naming.separator) if spec.prefix is None else prefix
        if not PORTABLE.fullmatch(own):
            notes.append(f"{spec.name}: some clients refuse names with '{prefix}'; set 'prefix' to plain characters")
    return notes


def _server_notes(spec: ServerSpec, prefix: str, name_max: int) -> list[str]:
    notes: list[str] = []
    if name_max - len(prefix) < ROOM:
        notes.append(f"prefix '{prefix}' leaves {max(name_max - len(prefix), 0)} characters for names")
    if not spec.tls.verify:
        notes.append("tls.verify is false: anybody on the way can read and change everything")
    if spec.url is not None:
        parts = urlsplit(spec.url)
        if parts.scheme in ("http", "ws") and spec.headers and not _is_loopback(parts.hostname or ""):
            encrypted = {"http": "https", "ws": "wss"}[parts.scheme]
            notes.append(f"headers go to another machine unencrypted; use {encrypted}")
    return notes


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _count(config: Config) -> str:
    disabled = sum(not spec.enabled for spec in config.servers)
    return f"{len(config.servers) - disabled}" + (f" and {disabled} disabled" if disabled else "")


def _table(config: Config) -> list[str]:
    rows = [COLUMNS]
    rows += (
        (
            spec.name,
            spec.transport if spec.enabled else "(disabled)",
            spec.exposed_prefix(config.naming.separator) or "(none)",
            spec.instances,
            spec.validate,
            target(spec, config.secrets),
        )
        for spec in config.servers
    )
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _details(config: Config) -> list[str]:
    lines: list[str] = []
    for spec in config.servers:
        parts = [
            f"{section}.{field}={_quantity(getattr(values, field))}"
            for section, values, default in (
                ("timeouts", spec.timeouts, Timeouts()),
                ("restart", spec.restart, Restart()),
                ("stop", spec.stop, Stop()),
                ("resources", spec.resources, Resources()),
                ("sandbox", spec.sandbox, Sandbox()),
            )
            for field in values.__struct_fields__
            if getattr(values, field) != getattr(default, field)
        ]
        parts += (
            f"{field}={getattr(spec, field)}"
            for field in ("user", "group", "umask", "nice")
            if getattr(spec, field) is not None
        )
        if spec.start != "eager":
            parts.append(f"start={spec.start}")
        if spec.idle_stop:
            parts.append(f"idle_stop={_quantity(spec.idle_stop)}")
        if spec.env or spec.inherit_env:
            parts.append("env: " + ", ".join([*spec.env, *spec.inherit_env]))
        if spec.headers:
            parts.append("headers: " + ", ".join(spec.headers))
        if parts:
            lines.append(f"{spec.name}: {'; '.join(parts)}")
    return ["", *lines] if lines else []


def _quantity(value: str | float | tuple[str, ...]) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case tuple():
            return ",".join(value) or "(none)"
    return str(value)


def target(spec: ServerSpec, secrets: Secrets) -> str:
    """How a server is reached, for people: its command line or url with everything secret taken out."""
    if spec.url is not None:
        url, question, _ = spec.url.partition("?")
        return secrets.redact(url) + (f"?{REDACTED}" if question else "")
    words = [secrets.redact(word) for word in (spec.command or "", *spec.args)]
    shown = (
        word if word and word.isprintable() and " " not in word else msgspec.json.encode(word).decode()
        for word in words
    )
    return " ".join(shown)
