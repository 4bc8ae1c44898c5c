"""Each fuzz target for a moment, always with the same inputs; `tests/fuzz` says how to run one for longer."""

from __future__ import annotations

import pytest

from tests.fuzz import convert, http, jsonrpc, lines, sse, uritemplate
from tests.fuzz.runner import pieces, run

EXAMPLES = 150
TARGETS = [target for module in (lines, sse, http, jsonrpc, convert, uritemplate) for target in module.TARGETS]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_target(target):
    run(target, EXAMPLES, repeatable=True)


def test_pieces():
    assert pieces(b"abc", []) == [b"abc"]
    assert b"".join(pieces(b"abcdef", [2, 4, 99])) == b"abcdef"
