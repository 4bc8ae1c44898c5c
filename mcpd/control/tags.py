"""Entity tags: what of the configuration an operator has seen, so that no change is made in ignorance of another one.

A tag stands for the configuration that is in effect, of one server, of all, or of mcpd: it stays the same while servers
come and go, and over a restart. It is a keyed digest, so that nothing of `env` or `headers` can be guessed from it.

Source: RFC 9110, sections 8.8.3 and 13.1.1. As there (13.2.1), a condition on what does not exist is not looked at:
that it does not exist is the answer.
"""

from __future__ import annotations

import hashlib
import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.control.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcpd.control.operations import Operations

_encoder: Final = msgspec.msgpack.Encoder(order="deterministic")


def configuration(operations: Operations, path: Mapping[str, str]) -> str | None:
    """Of everything that is configured."""
    return _tag(operations, operations.gateway.config)


def servers(operations: Operations, path: Mapping[str, str]) -> str | None:
    """Of all servers."""
    return _tag(operations, operations.gateway.config.servers)


def server(operations: Operations, path: Mapping[str, str]) -> str | None:
    """Of the server that the path names; None if there is none."""
    found = (spec for spec in operations.gateway.config.servers if spec.name == path["name"])
    spec = next(found, None)
    return _tag(operations, spec) if spec is not None else None


def _tag(operations: Operations, value: object) -> str:
    return f'"{hmac.new(operations.key, _encoder.encode(value), hashlib.sha256).hexdigest()[:32]}"'


def holds(condition: str, tag: str) -> bool:
    """Whether an If-Match is met by what has this tag. A weak tag never is, nor what is none: who says that has not
    seen this."""
    return condition.strip() == "*" or tag in [each.strip() for each in condition.split(",")]


def require(condition: str | None, tag: str | None) -> None:
    """Raises: Refusal, when what is asked for is another one than whoever asks has seen."""
    if condition is None or tag is None or holds(condition, tag):
        return
    raise Refusal(
        HTTPStatus.PRECONDITION_FAILED,
        "changed_meanwhile",
        f"it was changed since it was looked at: its ETag is {tag} now; nothing was done",
        "look at it again, and decide anew; If-Match is what its ETag says, quotes included",
        headers=b"ETag: %b\r\n" % tag.encode(),
    )
