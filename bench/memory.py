"""What the peers keep in memory: idle, for each idle session, and after sessions have come and gone."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.peers import Peer, Running, started
from bench.process import Failure
from bench.rig import BACKEND, Rig, say

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_BACKENDS = 10
HELD_SESSIONS = 1000
WARM_SESSIONS = 1000  # before the first reading: what is built once for the first sessions is not what they leave
SETTLE_SECONDS = 0.5  # memory is read after the last answer has been sent, and not while it is
KINDS = ("sessions", "connections", "streams")


@dataclass
class Memory:
    """Of one peer; None for what was not measured, with the reason in `problems`."""

    idle_pss_kib: int | None = None
    idle_rss_kib: int | None = None
    per_session_kib: dict[str, float] = field(default_factory=dict)
    churned: int = 0
    churn_before_kib: int | None = None
    churn_after_kib: int | None = None
    deletes_refused: int = 0
    backend_sessions_left: int | None = None
    problems: list[str] = field(default_factory=list)


def measure_memory(rig: Rig) -> dict[str, Memory]:
    """Every peer that has a process, each reading in a process of its own."""
    out = {}
    for peer in rig.peers:
        if not peer.gateway:
            continue
        say(f"memory: {peer.name}")
        memory = out[peer.name] = Memory()
        steps = [(f"{kind}", _hold(kind)) for kind in KINDS]
        for what, step in [("idle", _idle), *steps, ("churn", _churn)]:
            try:
                step(rig, peer, memory)
            except Failure as e:
                memory.problems.append(f"{what}: {e}")
                say(f"  {peer.name}: {what}: {e}")
    return out


def _read(running: Running, field_name: str = "Pss") -> int:
    time.sleep(SETTLE_SECONDS)
    return running.process.memory_kib(field_name)


def _idle(rig: Rig, peer: Peer, memory: Memory) -> None:
    kind = peer.kinds[0]
    if kind != "stdio":
        raise Failure("has no stdio backends")
    backends = {f"be{i}": rig.backend(kind) for i in range(IDLE_BACKENDS)}
    with started(peer, backends, rig.folder, rig.cpu) as running:
        memory.idle_pss_kib = _read(running)
        memory.idle_rss_kib = _read(running, "Rss")


def _hold(kind: str) -> Callable[[Rig, Peer, Memory], None]:
    def step(rig: Rig, peer: Peer, memory: Memory) -> None:
        sessions = HELD_SESSIONS // 5 if rig.quick else HELD_SESSIONS
        tool = peer.tool(BACKEND, "echo", 1)
        with started(peer, {BACKEND: rig.backend(peer.kinds[0])}, rig.folder, rig.cpu) as running:
            rig.generator.churn(running, tool, min(WARM_SESSIONS, peer.churn) // 5)
            before = _read(running)
            with rig.generator.holding(running, kind, tool, sessions):
                memory.per_session_kib[kind] = (_read(running) - before) / sessions

    return step


def _churn(rig: Rig, peer: Peer, memory: Memory) -> None:
    """With an HTTP backend where there is a choice: there the sessions behind the gateway have to end too."""
    sessions = peer.churn // 10 if rig.quick else peer.churn
    tool = peer.tool(BACKEND, "echo", 1)
    with started(peer, {BACKEND: rig.backend("http")}, rig.folder, rig.cpu) as running:
        rig.generator.churn(running, tool, min(WARM_SESSIONS, sessions))
        before, open_before = _read(running, "Rss"), rig.echo_sessions()
        result = rig.generator.churn(running, tool, sessions)
        if result["errors"]:
            raise Failure(f"{result['errors']} errors: {result['first_error']}")
        memory.churned, memory.deletes_refused = result["sessions"], result["refused_deletes"]
        memory.churn_before_kib, memory.churn_after_kib = before, _read(running, "Rss")
        memory.backend_sessions_left = rig.echo_sessions() - open_before
