"""What translating costs: the same call by a legacy and by a modern client, to the same legacy stdio backend."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.load import SMALL
from bench.peers import Peer, started
from bench.process import Failure
from bench.rig import BACKEND, say

if TYPE_CHECKING:
    from bench.rig import Rig

CLIENTS = 16
MODERN = ["--version", "2026-07-28"]
VARIANTS = {
    "legacy client": [],
    "modern client": MODERN,
    "modern client that can be asked": [*MODERN, "--capabilities", '{"elicitation":{},"sampling":{},"roots":{}}'],
}


@dataclass
class Bridge:
    """`samples[variant][round]`."""

    samples: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    problem: str = ""


def measure_bridge(rig: Rig) -> Bridge:
    """Each variant in turn against one running mcpd, then all again in the next round."""
    out = Bridge()
    for peer in rig.peers:
        if peer.name != "mcpd":
            continue
        for number in range(rig.rounds):
            say(f"round {number + 1}/{rig.rounds}: translation")
            try:
                _measure_round(rig, out, number, peer)
            except Failure as e:
                out.problem = str(e)
                say(f"  {e}")
    return out


def _measure_round(rig: Rig, out: Bridge, number: int, peer: Peer) -> None:
    with started(peer, {BACKEND: rig.backend("stdio")}, rig.folder, rig.cpu) as running:
        tool = peer.tool(BACKEND, SMALL.tool, 1)
        for variant, options in VARIANTS.items():
            sample = rig.generator.measure(running, SMALL, tool, CLIENTS, rig.seconds, rig.warmup, options)
            out.samples.setdefault(variant, {})[number] = sample


def ratio(bridge: Bridge, variant: str, key: str = "cpu_us") -> float | None:
    """A variant ÷ the legacy client, taken in each round and then the median."""
    base, other = bridge.samples.get("legacy client", {}), bridge.samples.get(variant, {})
    pairs = [(other[r].get(key, 0.0), base[r].get(key, 0.0)) for r in base.keys() & other.keys()]
    ratios = [x / y for x, y in pairs if x and y]
    return statistics.median(ratios) if ratios else None


def errors(bridge: Bridge) -> str:
    """The first thing that went wrong in any sample."""
    samples = [sample for rounds in bridge.samples.values() for sample in rounds.values()]
    return bridge.problem or next((sample["first_error"] for sample in samples if sample["errors"]), "")


def bridge_lines(bridge: Bridge) -> list[str]:
    """The part of the report."""
    lines = ["", f"Translation by mcpd: tools/call, small, {CLIENTS} clients, legacy stdio backend"]
    lines.append(f"  {'variant':<34}{'req/s':>10}{'CPU µs':>10}{'÷ legacy':>10}{'errors':>8}")
    for variant in VARIANTS:
        rounds = list(bridge.samples.get(variant, {}).values())
        if not rounds:
            lines.append(f"  {variant:<34}{'-':>10}   {bridge.problem[:100]}")
            continue
        speed, cpu = (statistics.median(float(s.get(key, 0)) for s in rounds) for key in ("req_s", "cpu_us"))
        times = ratio(bridge, variant)
        failed = sum(s["errors"] for s in rounds)
        shown = "" if times is None else f"{times:.2f}x"
        lines.append(f"  {variant:<34}{speed:>10,.0f}{cpu:>10,.1f}{shown:>10}{failed:>8}")
    return lines
