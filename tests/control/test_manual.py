"""mcpd-control(7) has every operation, everything that may be in a query, and every error."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import mcpd
from mcpd.control.configuration import STATUSES
from mcpd.control.openapi import ABOUT
from mcpd.control.operations import TABLE
from mcpd.control.reading import BODY_MAX
from mcpd.control.refusal import _CODES
from mcpd.control.remote import OFFERED
from mcpd.control.server import LIMITS
from mcpd.control.stream import KEEPALIVE
from mcpd.events import CALLS_KEPT, GAP, KINDS, OTHERS_KEPT

SOURCE = Path(mcpd.__file__).parent
PAGE = (SOURCE.parent / "man" / "mcpd-control.7").read_text(encoding="utf-8")


def entries(title: str) -> dict[str, str]:
    section = re.split(r"^\.Sh ", PAGE.split(f"\n.Sh {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\.It Li (.*?)\n(.*?)(?=^\.It|^\.El)", section, flags=re.MULTILINE | re.DOTALL))


def codes() -> set[str]:
    """What refusals are made with, as constants."""
    found = {code for code, _ in _CODES.values()} | {"refused", *STATUSES}
    for path in (*SOURCE.glob("*.py"), *SOURCE.glob("control/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name("Refusal"), args=[_, ast.Constant(str(code)), *_]):
                    found.add(code)
    return found


def test_every_operation_is_in_the_manual():
    assert set(entries("OPERATIONS")) == {f"{row.method} {row.path}" for row in TABLE}


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{row.method} {row.path}") for row in TABLE if row.query])
def test_everything_that_may_be_in_a_query_is_in_the_manual(row):
    text = entries("OPERATIONS")[f"{row.method} {row.path}"]
    named = {word for line in re.findall(r"^\.Li (.*)$", text, flags=re.MULTILINE) for word in line.split(" , ")}
    assert {parameter.name for parameter in row.query} <= {word.removesuffix(" .").removesuffix(" ,") for word in named}


def test_what_is_on_the_http_port_too_is_in_the_manual_and_in_the_openapi_document():
    section = PAGE.split("\n.Ss The HTTP port\n", 1)[1].partition("\n.Ss ")[0]
    form = r"(GET|POST|PUT|PATCH|DELETE) (/v1/[\w/{}]+)"
    assert set(re.findall(rf"^\.Li {form}", section, flags=re.MULTILINE)) == OFFERED
    assert set(re.findall(rf"`{form}`", ABOUT)) == OFFERED


def test_every_error_is_in_the_manual():
    assert {"not_found", "busy", "invalid_body"} <= codes(), "the search finds nothing"
    assert set(entries("REFUSALS")) == codes()


def test_every_kind_of_event_is_in_the_manual():
    assert set(entries("EVENTS")) == {*KINDS, GAP}
    page = " ".join(PAGE.split())
    assert f"the latest {CALLS_KEPT} calls are kept, and {OTHERS_KEPT} of everything else" in page
    assert f"A comment comes every {KEEPALIVE:g} seconds" in page


def test_the_bounds_are_those_in_the_manual():
    assert (LIMITS.connections, LIMITS.per_user, LIMITS.idle) == (256, 192, 60)
    assert (LIMITS.head, LIMITS.body, BODY_MAX) == (16 << 10, 4 << 20, 1 << 20)
    assert (LIMITS.head_timeout, LIMITS.body_stall) == (10, 30)
