"""Runs targets: a property of a codec and the inputs it must hold for."""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES_A_ROUND = 2000


class Target(NamedTuple):
    name: str
    inputs: st.SearchStrategy[Any]
    check: Any


def run(target: Target, examples: int, *, repeatable: bool) -> None:
    """Try so many inputs; the first that fails is made small and raised."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=repeatable,
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs)
    def attempt(value: Any) -> None:
        target.check(value)

    attempt()


def main(targets: tuple[Target, ...]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    end = time.monotonic() + parser.parse_args().seconds
    examples = 0
    while time.monotonic() < end:
        for target in targets:
            run(target, EXAMPLES_A_ROUND, repeatable=False)
            examples += EXAMPLES_A_ROUND
        print(f"{examples} examples, none failed", flush=True)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data cut at these places (modulo its length)."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)]


CUTS = st.lists(st.integers(min_value=0, max_value=10_000), max_size=12)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
