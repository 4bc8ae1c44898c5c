"""A client's entry → the table that mcpd takes, or why there is none.

Rules.
1. What mcpd does differently in a way that counts is told as a note; what it cannot do at all, and the server needs, is
   a reason not to take it.
2. Values are carried over as they are. A secret that stands in the client's file then stands in mcpd's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcpd.cli.clients.forms import ANY
from mcpd.cli.clients.texts import Missing, Texts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcpd.cli.clients.forms import Entry, Table

TRANSPORTS: Final = {
    "stdio": "stdio",
    "local": "stdio",
    "http": "streamable-http",
    "streamable-http": "streamable-http",
    "streamableHttp": "streamable-http",
    "streamable_http": "streamable-http",
    "remote": "auto",
    "sse": "sse",
    "ws": "websocket",
    "websocket": "websocket",
    "auto": "auto",
}
"""mcpd's word for what clients call it."""

IMPOSSIBLE: Final = {
    "headersHelper": "its headers are made by a program, which mcpd does not run",
    "http_headers_helper": "its headers are made by a program, which mcpd does not run",
    "experimental_environment": "it is started elsewhere, by the client",
}
TOLD: Final = {
    "oauth": "signing in with OAuth is the client's; give mcpd a token in 'headers'",
    "auth": "signing in with OAuth is the client's; give mcpd a token in 'headers'",
    "scopes": "signing in with OAuth is the client's; give mcpd a token in 'headers'",
    "enabled_tools": "all its tools are offered: the client's choice of tools is not carried over",
    "disabled_tools": "all its tools are offered: the client's choice of tools is not carried over",
    "sandboxEnabled": "the client's sandbox is not carried over; see 'sandbox' in mcpd.yaml(5)",
    "sandbox": "the client's sandbox is not carried over; see 'sandbox' in mcpd.yaml(5)",
}
SILENT: Final = frozenset(
    (
        *("type", "transport", "command", "args", "env", "cwd", "url", "httpUrl", "serverUrl", "headers", "envFile"),
        *("disabled", "enabled", "env_vars", "bearer_token_env_var", "http_headers", "env_http_headers"),
        *("startup_timeout_sec", "startup_timeout_ms", "tool_timeout_sec", "timeout"),
        *("autoApprove", "alwaysAllow", "alwaysLoad", "trust", "gallery", "version", "dev", "required"),
        *("description", "name", "supports_parallel_tool_calls", "default_tools_approval_mode", "tools"),
    )
)
"""Keys that are carried over, or say how the client shows it or asks about it."""

NAME_MAX: Final = 64
_NOT_IN_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_LINE: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
ENV_FILE_MAX: Final = 1 << 20


@dataclass(slots=True)
class Translated:
    """What mcpd is to be given."""

    name: str
    table: Table
    notes: list[str] = field(default_factory=list)
    variables: set[str] = field(default_factory=set)
    """That mcpd's own environment has to have."""


def translate(
    entry: Entry,
    home: Path,
    *,
    filled: Mapping[str, str] | None = None,
    answer: Callable[[str, bool], str] | None = None,
) -> Translated:
    """Raises: Missing."""
    texts = Texts(entry, home, filled, answer)
    given = entry.table
    for key, reason in IMPOSSIBLE.items():
        if given.get(key):
            raise Missing(reason, "give mcpd the values in 'headers'" if "eaders" in key else "")
    result = Translated(name_of(entry.name), {})
    if result.name != entry.name:
        result.notes.append(f"'{entry.name}' is no name for mcpd: it is called '{result.name}'")
    remote = next((given[key] for key in ("url", "httpUrl", "serverUrl") if isinstance(given.get(key), str)), None)
    if isinstance(given.get("command"), str) and given["command"]:
        result.table = _program(entry, texts, home)
    elif remote:
        result.table = _remote(entry, texts, remote)
    else:
        raise Missing("it has neither a command nor a url", "")
    if given.get("disabled") is True or given.get("enabled") is False:
        result.table["enabled"] = False
    result.table |= _timeouts(entry)
    result.variables = texts.variables
    result.notes += dict.fromkeys(note for key, note in TOLD.items() if given.get(key) and (entry.form != ANY))
    if entry.form == ANY:
        # mcpd's own settings may be there too; mcpd says itself which of them it does not know.
        result.table |= {key: value for key, value in given.items() if key not in SILENT}
    elif unknown := sorted(key for key in given if key not in SILENT and key not in TOLD):
        result.notes.append(f"not carried over: {', '.join(unknown)}")
    return result


def name_of(name: str) -> str:
    """The same, or as near as mcpd allows. Raises: Missing."""
    new = _NOT_IN_NAME.sub("-", name).lstrip("_.-")[:NAME_MAX].rstrip("-") if name else ""
    if not new:
        raise Missing(f"'{name}' is no name for mcpd", "give it one of letters and digits")
    return new


def _program(entry: Entry, texts: Texts, home: Path) -> Table:
    given = entry.table
    table: Table = {"command": texts.text(given["command"])}
    args = given.get("args")
    if isinstance(args, list) and args:
        table["args"] = [texts.text(_scalar(each)) for each in args]
    env: dict[str, str] = {}
    if isinstance(given.get("envFile"), str):
        env |= {name: _literal(value) for name, value in _env_file(texts, given["envFile"], home).items()}
    env |= {
        str(name): texts.text(_scalar(value)) for name, value in _map(given.get("env")).items() if value is not None
    }
    passed = [_passed(each) for each in given.get("env_vars") or () if _passed(each)]
    if env:
        table["env"] = env
    if passed:
        table["inherit_env"] = passed
    folder = given.get("cwd")
    if isinstance(folder, str) and folder:
        path = Path(texts.text(folder))
        table["cwd"] = str(path if path.is_absolute() or entry.project is None else entry.project / path)
    elif entry.project is not None:
        # That is where the client starts it.
        table["cwd"] = str(entry.project)
    return table


def _remote(entry: Entry, texts: Texts, url: str) -> Table:
    given = entry.table
    table: Table = {"url": texts.text(url)}
    said = given.get("type", given.get("transport"))
    transport = TRANSPORTS.get(said, "") if isinstance(said, str) else ""
    if entry.form == "vscode" and said == "http":
        transport = "auto"  # VS Code too falls back to the older transport
    if entry.form == "codex":
        transport = "streamable-http"
    if transport and transport not in ("auto", "stdio"):
        table["transport"] = transport
    headers = {
        str(name): texts.text(_scalar(value))
        for key in ("headers", "http_headers")
        for name, value in _map(given.get(key)).items()
    }
    headers |= {str(name): texts.variable(str(value)) for name, value in _map(given.get("env_http_headers")).items()}
    token = given.get("bearer_token_env_var")
    if isinstance(token, str) and token:
        headers["Authorization"] = f"Bearer {texts.variable(token)}"
    if headers:
        table["headers"] = headers
    return table


def _timeouts(entry: Entry) -> Table:
    """In seconds, as mcpd has them."""
    given = entry.table
    found: dict[str, Any] = {}
    start = given.get("startup_timeout_sec")
    if start is None and isinstance(given.get("startup_timeout_ms"), (int, float)):
        start = given["startup_timeout_ms"] / 1000
    said = {"init": start, "call_idle": given.get("tool_timeout_sec")}
    found |= {key: value for key, value in said.items() if isinstance(value, (int, float)) and value > 0}
    if entry.form == "claude-code" and isinstance(given.get("timeout"), (int, float)) and given["timeout"] > 0:
        found["call_idle"] = given["timeout"] / 1000
    return {"timeouts": found} if found else {}


def _env_file(texts: Texts, name: str, home: Path) -> dict[str, str]:
    path = Path(texts.text(name))
    if path.parts[:1] == ("~",):
        path = home.joinpath(*path.parts[1:])
    try:
        if path.stat().st_size > ENV_FILE_MAX:
            raise Missing(f"its envFile {path} is larger than {ENV_FILE_MAX >> 20} MiB", "")
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise Missing(f"its envFile {path} cannot be read: {reason}", "") from None
    found = {}
    for line in content.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is not None:
            value = match[2].strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            found[match[1]] = value[1:-1] if quoted else value.partition(" #")[0].rstrip()
    return found


def _literal(value: str) -> str:
    return value.replace("$", "$$") if "$" in value else value


def _map(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _passed(value: object) -> str:
    """A variable that Codex hands on: its name, or a table with it."""
    return str(value.get("name", "")) if isinstance(value, dict) else str(value)


def _scalar(value: object) -> str:
    """A text, a number or a yes as a text: JSON tempts people to write them so."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise Missing("a value is neither a text nor a number", "write it as a text")
