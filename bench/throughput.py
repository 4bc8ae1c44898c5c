"""Rounds of load: every variant in turn, then all again, so that a drift of the machine hits all alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bench.load import ARGUMENT, RESULT, SMALL, Payload
from bench.peers import Peer, started
from bench.process import Failure
from bench.rig import BACKEND, Rig, say

POINTS = [(SMALL, 1), (SMALL, 16), (SMALL, 64), (RESULT, 1), (RESULT, 16), (RESULT, 64), (ARGUMENT, 16)]
QUICK_POINTS = [(SMALL, 1), (SMALL, 16), (RESULT, 16)]


@dataclass
class Throughput:
    """`samples[variant, payload, clients][round]`; a variant is "peer" or "peer-kind"."""

    points: list[tuple[Payload, int]]
    variants: list[str] = field(default_factory=list)
    samples: dict[tuple[str, str, int], dict[int, dict[str, Any]]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def variant_name(peer: Peer, kind: str) -> str:
    return peer.name if len(peer.kinds) == 1 else f"{peer.name}-{kind}"


def measure_throughput(rig: Rig) -> Throughput:
    """All rounds. A variant that fails is reported and tried again in the next round."""
    out = Throughput(QUICK_POINTS if rig.quick else POINTS)
    variants = [(variant_name(p, k), p, k) for p in rig.peers for k in p.kinds]
    out.variants = [name for name, _, _ in variants]
    for number in range(rig.rounds):
        for name, peer, kind in variants:
            if number >= peer.max_rounds:
                continue
            say(f"round {number + 1}/{rig.rounds}: {name}")
            try:
                _measure_variant(rig, out, number, name, peer, kind)
            except Failure as e:
                out.problems[name] = str(e)
                say(f"  {name}: {e}")
    return out


def _measure_variant(rig: Rig, out: Throughput, number: int, name: str, peer: Peer, kind: str) -> None:
    with started(peer, {BACKEND: rig.backend(kind)}, rig.folder, rig.cpu) as running:
        for payload, clients in out.points:
            tool = peer.tool(BACKEND, payload.tool, 1)
            sample = rig.generator.measure(running, payload, tool, clients, rig.seconds, rig.warmup)
            out.samples.setdefault((name, payload.name, clients), {})[number] = sample
