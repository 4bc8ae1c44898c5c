"""What is a secret by its looks, wherever it came from: tokens that a server was handed by others and then prints.

The configuration's own secrets are known, and are replaced wherever they stand (`config.model.Secrets`). Of these
nobody knew before: what an OAuth server issued, what a library logs of a request. So they are found by how they are
written, which misses some and now and then hits a word that is none; a line that says `token=***` can still be read.
"""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "***"

_SHAPES: Final = re.compile(
    r"\b(?:gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{16,}|xox[a-z]-[\w-]{10,}|ya29\.[\w-]{16,}"
    r"|npm_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)"
)
"""Tokens whose issuers have them begin in a way of their own, so that they can be found; the last is a JWT."""

_NAMED: Final = re.compile(
    r"((?:token|secret|passw(?:or)?d|api[_-]?key|authorization|credentials?|cookie)[\"']?"
    r"(?:\s?=\s?|[\"']\s?:\s?|:\s?(?=\S*[0-9])(?=[^\s\"',;]{12}))[\"']?(?:(?:bearer|basic|token)\s+)?)([^\s\"'&,;]{6,})",
    re.IGNORECASE,
)
"""A name that tells what follows, and what follows. After a mere colon, which prose has too, it must look like one."""

_SCHEMES: Final = re.compile(r"\b((?:bearer|basic)\s+)(?=[^\s\"',;]*[0-9=._~+/-])([^\s\"',;]{8,})", re.IGNORECASE)
"""The value of an Authorization header."""

_USERINFO: Final = re.compile(r"(?<=://)[^\s/?#@\"']{1,256}@")

_SHAPE_MARKS: Final = (
    *("ghp_", "gho_", "ghr_", "ghs_", "ghu_", "github_pat_", "glpat-", "sk-", "xox", "ya29.", "npm_", "akia", "eyj"),
)
_NAME_MARKS: Final = ("token", "secret", "passw", "key", "authorization", "credential", "cookie")
_SCHEME_MARKS: Final = ("bearer", "basic")
"""What is in a text, in small letters, that is worth a closer look: most lines pass in a microsecond."""


def redact_tokens(text: str) -> str:
    """The text with everything that looks like a secret replaced by `***`."""
    small = text.lower()
    if any(mark in small for mark in _SHAPE_MARKS):
        text = _SHAPES.sub(REDACTED, text)
    if any(mark in small for mark in _NAME_MARKS):
        text = _NAMED.sub(_keep_name, text)
    if any(mark in small for mark in _SCHEME_MARKS):
        text = _SCHEMES.sub(_keep_name, text)
    return _USERINFO.sub(f"{REDACTED}@", text) if "://" in text and "@" in text else text


def _keep_name(match: re.Match[str]) -> str:
    return match.group(1) + REDACTED
