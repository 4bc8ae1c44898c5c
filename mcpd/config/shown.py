"""A configuration as operators are shown it: every value that may be a secret is `***`.

Rules.
1. Values of `env` and `headers` are hidden whatever they are, but for variables that tell nothing (`PATH`).
2. Everywhere else what was substituted, and what an argument or a query calls a secret, is hidden, however short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mcpd.config.servers import secrets_of
from mcpd.config.substitution import is_public
from mcpd.redaction import REDACTED

if TYPE_CHECKING:
    from mcpd.config.model import Config, Secrets, ServerSpec

_NOT_SHOWN = ("servers", "secrets", "origins", "conflicts", "problems", "drop_ins", "source")

Tree = dict[str, Any]


def shown(config: Config) -> Tree:
    """The whole configuration in effect, in units of the model: seconds and bytes.

    `sources` are its files, `settings` all sections, `servers` the tables by name, `origins` where each is from.
    """
    settings = {
        name: _redacted(msgspec.to_builtins(getattr(config, name)), config.secrets)
        for name in config.__struct_fields__
        if name not in _NOT_SHOWN
    }
    return {
        "sources": [config.source, *config.drop_ins],
        "settings": settings,
        "servers": {spec.name: shown_server(spec, config.secrets) for spec in config.servers},
        "origins": msgspec.to_builtins(config.origins),
        "conflicts": msgspec.to_builtins(config.conflicts),
        "problems": list(config.problems),
    }


def shown_server(spec: ServerSpec, secrets: Secrets) -> Tree:
    """One server."""
    table: Tree = msgspec.to_builtins(spec)
    hidden = {value for value in secrets_of(spec, {}) if value}
    env, headers = table.pop("env"), table.pop("headers")
    table = _redacted(table, secrets)
    table["args"] = [_argument(argument, hidden, secrets) for argument in spec.args]
    if spec.url is not None:
        url, question, _ = spec.url.partition("?")
        table["url"] = secrets.redact(url) + (f"?{REDACTED}" if question else "")
    table["env"] = {name: secrets.redact(value) if is_public(name) else REDACTED for name, value in env.items()}
    table["headers"] = dict.fromkeys(headers, REDACTED)
    return table


def _argument(argument: str, hidden: set[str], secrets: Secrets) -> str:
    if argument in hidden:
        return REDACTED
    option, equals, value = argument.partition("=")
    return f"{option}={REDACTED}" if equals and value in hidden else secrets.redact(argument)


def _redacted(value: Any, secrets: Secrets) -> Any:  # noqa: ANN401 - a tree
    if isinstance(value, str):
        return secrets.redact(value)
    if isinstance(value, dict):
        return {key: _redacted(inner, secrets) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(inner, secrets) for inner in value]
    return value
