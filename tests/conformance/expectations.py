"""What every run of the suites must give, and the exceptions, each with its reason.

The numbers are those of the fixture itself, without mcpd: a gateway that loses nothing loses no check. Exceptions are
what no gateway can do better, or what belongs to the suite. One that no longer happens is reported like a failure:
it is to be taken off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.suites import Outcome


@dataclass(frozen=True, slots=True)
class Expectation:
    """So many checks must pass, and none fail or warn but the `exceptions`."""

    passed: int
    exceptions: Mapping[str, str] = field(default_factory=dict)
    """`FAILURE scenario:check`, or `FAILURE scenario` for any of its checks, or the same with WARNING → why."""
    apart: Mapping[str, str] = field(default_factory=dict)
    """Beginning of a scenario's name → why it tells nothing here. None of its checks count."""

    def count(self, outcome: Outcome, status: str) -> int:
        """Checks with this status, without those that tell nothing."""
        return sum(counts[status] for name, counts in outcome.counts.items() if not self.leaves_out(name))

    def leaves_out(self, scenario: str) -> bool:
        return scenario.startswith(tuple(self.apart))


FRONTS: dict[str, Expectation] = {
    "0.1.16-all": Expectation(47),
    "req-2025-11-25": Expectation(84),
    "2025-06-18": Expectation(56),
    "2025-03-26": Expectation(3),
    # One more than without mcpd, which answers with a stream where the fixture answers with JSON: the suite takes
    # either, and counts the stream.
    "req-2026-07-28": Expectation(197),
}
"""Run → what it gives, whatever stands behind mcpd."""

CROSSINGS: dict[tuple[str, str], Expectation] = {
    ("req-2026-07-28", "legacy"): Expectation(
        150,
        {
            "FAILURE server-stateless:sep-2575-server-rejects-undeclared-capability": (
                "a server of the handshake versions has no -32021: its tool runs, and fails when it may not ask"
            ),
            "FAILURE server-stateless:sep-2575-missing-capability-http-400": "the same",
            "WARNING input-required-result-ignore-extra-params:sep-2322-ignore-unexpected-params": (
                "answers without a requestState belong to no call that waits for them, so the server asks anew"
            ),
        },
        {"tasks-": "no server of the handshake versions has the extension, and the suite does not score it"},
    ),
}
"""(Run, era of the backend) → what it gives where the eras make a difference."""

DIRECT: dict[str, Expectation] = {
    "req-2026-07-28": Expectation(196),
    # Its polling scenario sends a 2025-03-26 header in a session of 2025-11-25. A server that goes by the header does
    # not prime the stream. mcpd goes by the session, primes, is resumed, and has three more.
    "0.1.16-all": Expectation(
        44,
        {
            "WARNING server-sse-polling": "the suite sends a header of 2025-03-26 in a session of 2025-11-25",
        },
    ),
}
"""Run → what the fixture gives by itself, where that is something else."""

CLIENT: dict[tuple[str, str], int] = {
    ("initialize", "2025-06-18"): 1,
    ("initialize", "2025-11-25"): 1,
    ("tools_call", "2025-06-18"): 2,
    ("tools_call", "2025-11-25"): 2,
    ("tools_call", "2026-07-28"): 2,
    ("elicitation-sep1034-client-defaults", "2025-11-25"): 5,
    ("sse-retry", "2025-11-25"): 3,
    ("json-schema-2020-12-preservation", "2025-11-25"): 9,
    ("json-schema-2020-12-preservation", "2026-07-28"): 9,
    ("json-schema-ref-no-deref", "2026-07-28"): 1,
    ("request-metadata", "2026-07-28"): 8,
    ("http-standard-headers", "2026-07-28"): 10,
    ("http-custom-headers", "2026-07-28"): 18,
    ("http-invalid-tool-headers", "2026-07-28"): 12,
    ("sep-2322-client-request-state", "2026-07-28"): 5,
}
"""(Scenario of the client suite, version of its mock server) → checks that mcpd passes toward the mock server,
whatever era the client in front of it speaks: all scenarios but those of OAuth."""


def expectation(run: str, era: str, direct: bool) -> Expectation:
    """What a run against a server must give; `era` is the backend's."""
    if direct:
        return DIRECT.get(run, FRONTS[run])
    return CROSSINGS.get((run, era), FRONTS[run])


def complaints(expected: Expectation, outcome: Outcome) -> list[str]:
    """What is not as it must be, in words; nothing when all is."""
    found = []
    if outcome.status is None:
        found.append("took too long")
    elif outcome.status and not (outcome.status == 1 and outcome.remarks):
        found.append(f"the suite ended with status {outcome.status}")
    if expected.count(outcome, "SUCCESS") != expected.passed:
        found.append(f"{expected.passed} checks must pass")
    unexpected = [key for key in outcome.remarks if not is_known(expected, key)]
    if unexpected:
        found.append(f"{len(unexpected)} unexpected")
    happened = outcome.remarks.keys() | {scenario_of(key) for key in outcome.remarks}
    found += [f"no longer happens: {key}" for key in expected.exceptions if key not in happened]
    return found


def is_known(expected: Expectation, key: str) -> bool:
    """Whether it is an exception, or of a scenario that tells nothing."""
    return bool(reason(expected, key)) or expected.leaves_out(scenario_of(key).partition(" ")[2])


def reason(expected: Expectation, key: str) -> str | None:
    """Why a check may fail or warn."""
    return expected.exceptions.get(key) or expected.exceptions.get(scenario_of(key))


def scenario_of(key: str) -> str:
    """`FAILURE scenario` of `FAILURE scenario:check`."""
    return key.partition(":")[0]
