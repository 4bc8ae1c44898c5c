"""One entry of `mcpServers` → a ServerSpec, and what no schema can say about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from mcpd.config.model import LAZY_IDLE_STOP, Resources, Restart, Sandbox, ServerSpec, Stop, Timeouts, Tls
from mcpd.config.substitution import is_public

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcpd.config.document import Value
    from mcpd.config.faults import Faults, Path

Table = dict[str, "Value"]

SECTIONS: dict[str, type[Timeouts | Restart | Stop | Tls | Resources | Sandbox]] = {
    "timeouts": Timeouts,
    "restart": Restart,
    "stop": Stop,
    "tls": Tls,
    "resources": Resources,
    "sandbox": Sandbox,
}
_SCHEMES = {"auto": ("http", "https", "ws", "wss"), "websocket": ("ws", "wss")}
"""What a url begins with, by transport; it is http and https where nothing else is said."""
_ALIASES = {"http": "streamable-http", "streamableHttp": "streamable-http"}
_ONLY_STDIO = (
    "args",
    "env",
    "inherit_env",
    "cwd",
    "stop",
    "user",
    "group",
    "umask",
    "nice",
    "resources",
    "sandbox",
)
_ONLY_REMOTE = ("headers", "tls")

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""RFC 9110 §5.6.2: what a header is called."""
_URL = re.compile(r"[!-~]+")
OWN_HEADERS = frozenset(
    [
        "accept",
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
"""mcpd sets these itself, for each request; a second value would break the request or the session."""
_TELLTALE = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)


def check_server(table: Table, path: Path, faults: Faults) -> None:
    """Add what is wrong with how the keys go together. Looks at keys only: a faulty entry may come."""
    has_command, has_url = table.get("command") is not None, table.get("url") is not None
    if has_command == has_url and (has_command or not faults.within(path)):
        # A misspelt key is the reason for there being neither, and is told already.
        reason = "both a command and a url" if has_command else "neither a command nor a url"
        remedy = "'command' starts a program, 'url' reaches a remote server; give one of them"
        faults.add((*path, "url") if has_command else path, reason, remedy)
    for one, other in (("transport", "type"), ("enabled", "disabled")):
        if one in table and other in table:
            faults.add((*path, other), f"'{other}' says the same thing as '{one}'", f"drop '{other}'")
    said = table.get("transport", table.get("type"))
    key = "transport" if "transport" in table else "type"
    if has_command != has_url and isinstance(said, str):
        if has_command and said not in ("stdio", "auto"):
            faults.add(
                (*path, key),
                f"a command has the transport 'stdio', not '{said}'",
                f"drop '{key}', or give a url",
            )
        elif has_url and said == "stdio":
            remedy = f"drop '{key}', or give a command"
            faults.add((*path, key), "a url cannot have the transport 'stdio'", remedy)
    for name in _ONLY_REMOTE if has_command else _ONLY_STDIO:
        if has_command != has_url and table.get(name):
            kind = "a remote server (url)" if has_command else "a program (command)"
            faults.add((*path, name), f"'{name}' is only for {kind}", "drop it")


def build_server(name: str, fields: dict[str, Any], path: Path, faults: Faults) -> ServerSpec:
    """The spec of an entry that the schema allows and whose units are converted."""
    values = dict(fields)
    said = values.pop("type", None) or values.pop("transport", None)
    values.pop("transport", None)
    disabled = values.pop("disabled", False)
    values.setdefault("enabled", not disabled)
    command = values.get("command") is not None
    values["transport"] = "stdio" if command else _remote_transport(_ALIASES.get(said, said) or "auto", values)
    values.setdefault("instances", "shared" if command else "per-session")
    values.setdefault("idle_stop", LAZY_IDLE_STOP if values.get("start") == "lazy" else 0.0)
    for key, kind in SECTIONS.items():
        if key in values:
            values[key] = kind(**values[key])
    spec = ServerSpec(name=name, **values)
    _check_text(spec, path, faults)
    _check_sandbox(spec.sandbox, (*path, "sandbox"), faults)
    return spec


def _remote_transport(said: str, values: dict[str, Any]) -> str:
    scheme = str(values.get("url")).partition(":")[0].lower()
    return "websocket" if said == "auto" and scheme in _SCHEMES["websocket"] else said


def _check_text(spec: ServerSpec, path: Path, faults: Faults) -> None:
    for name, value in spec.env.items():
        if not name or "=" in name or not name.isprintable():
            faults.add((*path, "env", name), "not a name of a variable", "no '=', no line ends, not empty")
        elif "\r" in value:
            faults.add((*path, "env", name), "the value has a carriage return in it", "save it with plain line ends")
    for index, name in enumerate(spec.inherit_env):
        if not name or "=" in name or not name.isprintable():
            remedy = "the name alone; a value belongs into 'env'"
            faults.add((*path, "inherit_env", index), "not a name of a variable", remedy)
    seen: set[str] = set()
    for name, value in spec.headers.items():
        _check_header((*path, "headers", name), name, value, faults)
        if name.lower() in seen:
            faults.add((*path, "headers", name), "the header is there twice", "case does not count")
        seen.add(name.lower())
    if spec.url is not None:
        _check_url(spec.url, spec.transport, (*path, "url"), faults)
    if spec.tls.key is not None and spec.tls.cert is None:
        faults.add((*path, "tls", "key"), "a key without a certificate", "give 'cert' too")
    if spec.timeouts.call_idle > spec.timeouts.call_max:
        remedy = "call_max bounds a call in all; make it the larger one"
        faults.add((*path, "timeouts", "call_idle"), "longer than call_max", remedy)
    if spec.restart.initial > spec.restart.cap:
        faults.add((*path, "restart", "initial"), "longer than cap", "cap is the longest delay")


def _check_sandbox(sandbox: Sandbox, path: Path, faults: Faults) -> None:
    lists = {name: getattr(sandbox, name) for name in ("read_only_paths", "read_write_paths", "inaccessible_paths")}
    for name, paths in lists.items():
        for index, each in enumerate(paths):
            if not each.startswith("/") or "\0" in each:
                faults.add((*path, name, index), "not an absolute path", "begin it with '/'")
    if lists["read_write_paths"] and not (lists["read_only_paths"] or lists["inaccessible_paths"]):
        remedy = "everything else can be written to as well; add read_only_paths: [/]"
        faults.add((*path, "read_write_paths"), "an exception to nothing", remedy)
    if not sandbox.no_new_privileges and any(lists.values()):
        remedy = "drop it, or the paths: a set-user-ID program would have to be free of them"
        faults.add((*path, "no_new_privileges"), "false, and yet there are paths", remedy)


def _check_header(path: Path, name: str, value: str, faults: Faults) -> None:
    if not _TOKEN.fullmatch(name):
        faults.add(path, "not a name of a header", "letters, digits and '-'")
    elif name.lower() in OWN_HEADERS:
        faults.add(path, "mcpd sets this header itself", "drop it")
    elif "\r" in value or "\n" in value:
        faults.add(path, "the value has a line end in it", "a header is one line")
    elif value != value.strip():
        faults.add(path, "the value begins or ends with a space", "drop the space")
    elif any((ord(char) < 32 and char != "\t") or ord(char) == 127 or ord(char) > 255 for char in value):
        faults.add(path, "the value has a character that a header cannot carry", "printable ASCII is safe")


def _check_url(url: str, transport: str, path: Path, faults: Faults) -> None:
    if not _URL.fullmatch(url):
        faults.add(path, "a url has printable ASCII only", "percent-encode the other characters")
        return
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        faults.add(path, "not a url", "e.g. http://127.0.0.1:9000/mcp")
        return
    schemes = _SCHEMES.get(transport, ("http", "https"))
    if parts.scheme not in schemes:
        *first, last = (f"{scheme}://" for scheme in schemes)
        means = "" if transport == "auto" else f" for the transport '{transport}'"
        example = f"e.g. {schemes[0]}://127.0.0.1:9000/mcp"
        faults.add(path, f"the url must begin with {', '.join(first)} or {last}{means}", example)
    elif not parts.hostname or not port_is_valid:
        faults.add(path, "the url names no host or an impossible port", "e.g. http://127.0.0.1:9000/mcp")
    elif "@" in parts.netloc:
        remedy = "send them in 'headers', e.g. Authorization: Bearer ${TOKEN}"
        faults.add(path, "the url has a user or password in it", remedy)
    elif "#" in url:
        faults.add(path, "the url has a fragment, which is never sent", "drop the '#' and what follows")


def secrets_of(spec: ServerSpec, environ: Mapping[str, str]) -> set[str]:
    """Every value of an entry that must not be shown, whether it was substituted or written out."""
    found = {value for name, value in spec.env.items() if not is_public(name)}
    found |= {environ[name] for name in spec.inherit_env if name in environ and not is_public(name)}
    for value in spec.headers.values():
        scheme, space, rest = value.partition(" ")
        # A backend may well quote the token without the scheme in front of it.
        found |= {value, rest.strip()} if space and scheme.isalpha() else {value}
    previous = ""
    for argument in spec.args:
        option, equals, value = argument.partition("=")
        if equals and option.startswith("-") and _TELLTALE.search(option):
            found.add(value)
        elif _TELLTALE.search(previous) and not argument.startswith("-"):
            found.add(argument)
        previous = argument if option.startswith("-") and not equals else ""
    if spec.url is not None:
        try:
            query = parse_qsl(urlsplit(spec.url).query, max_num_fields=100)
        except ValueError:
            query = []
        found |= {value for name, value in query if _TELLTALE.search(name)}
    return found


def as_table(value: Value) -> Table:
    """The value if it is a map, else an empty one."""
    return value if isinstance(value, dict) else {}
