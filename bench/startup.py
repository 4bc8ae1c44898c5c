"""How soon a client sees the tools of ten Python servers, slow ones and a hanging one among them; and those of a
hundred that mcpd knows from an earlier run.
"""

from __future__ import annotations

import http.client
import statistics
import sys
import time
from dataclasses import dataclass, field

from bench.client import Client
from bench.peers import Peer, lists_tools, spawned
from bench.process import POLL_SECONDS, Failure, accepts
from bench.rig import Rig, say
from bench.tools import HERE

SERVERS = 10
SLOW_SECONDS = 0.5  # each server's handshake in the slow cases: ten in a row would take five seconds
LIMIT_SECONDS = 20.0
REPEATS = 3
MANY = 100
MANY_SECONDS = 180.0  # for the first start of so many, which nobody waits for
READY = "event=ready"  # what mcpd logs when sockets and configuration stand


@dataclass
class Start:
    """Seconds from starting the gateway's process; medians. None: not within the limit."""

    first: float | None = None  # until tools/list was answered for the first time
    first_answer: float | None = None  # how long that answer took
    first_tools: int = 0  # tools it named
    complete: float | None = None  # until tools/list named the tool of every server that works
    problem: str = ""


@dataclass
class Case:
    name: str
    delays: list[float | None]  # a server each; None hangs for ever


CASES = [
    Case("one slow server", [SLOW_SECONDS]),
    Case("ten slow servers", [SLOW_SECONDS] * SERVERS),
    Case("ten servers", [0.0] * SERVERS),
    Case("ten servers, one hangs", [None] + [0.0] * (SERVERS - 1)),
]


@dataclass
class Known:
    """mcpd's second start with many servers; seconds, medians."""

    ready: float | None = None  # from starting its process to its readiness
    first_answer: float | None = None  # what the first tools/list took, right then
    complete: bool = False  # that it named every tool, each time
    problem: str = ""


@dataclass
class Startup:
    """`results[peer][case name]`, and the second start of mcpd if it was measured."""

    results: dict[str, dict[str, Start]] = field(default_factory=dict)
    known: Known | None = None


def measure_startup(rig: Rig) -> Startup:
    """Peers with stdio backends; unpinned, as a user would start them."""
    out = Startup()
    for peer in rig.peers:
        if "stdio" not in peer.kinds:
            continue
        results = out.results[peer.name] = {}
        for case in CASES:
            say(f"start: {peer.name}, {case.name}")
            repeats = REPEATS if peer.name == "mcpd" and not rig.quick else 1
            results[case.name] = _median([_measure(rig, peer, case) for _ in range(repeats)])
        if peer.name == "mcpd" and not rig.quick:
            say(f"start: {peer.name}, {MANY} servers that it knows")
            out.known = _measure_known(rig, peer)
    return out


def _measure_known(rig: Rig, peer: Peer) -> Known:
    backends = {f"be{i}": [sys.executable, str(HERE / "server.py")] for i in range(MANY)}
    wanted = {peer.tool(name, "hello", MANY) for name in backends}
    home = rig.folder / "known"
    log = home / "log"
    known = Known(complete=True)
    ready, answers = [], []
    try:
        with spawned(peer, backends, rig.folder, None, home=home) as running:
            running.process.wait_until(lambda: lists_tools(running.port, wanted), MANY_SECONDS)
        for _ in range(REPEATS):
            log.write_text("")
            with spawned(peer, backends, rig.folder, None, home=home) as running:
                running.process.wait_until(lambda: READY in log.read_text(errors="replace"), LIMIT_SECONDS)
                ready.append(time.monotonic() - running.process.started)
                with Client(running.port, timeout=LIMIT_SECONDS) as client:
                    asked = time.monotonic()
                    names = set(client.tool_names())
                    answers.append(time.monotonic() - asked)
                known.complete = known.complete and wanted <= names
    except (Failure, OSError, http.client.HTTPException) as e:
        known.problem = f"{type(e).__name__}: {e}"
        known.complete = False
        return known
    known.ready, known.first_answer = statistics.median(ready), statistics.median(answers)
    return known


def _measure(rig: Rig, peer: Peer, case: Case) -> Start:
    program = [sys.executable, str(HERE / "server.py")]
    backends = {
        f"be{i}": [*program, "--hang"] if delay is None else [*program, "--delay", str(delay)]
        for i, delay in enumerate(case.delays)
    }
    wanted = {peer.tool(f"be{i}", "hello", len(backends)) for i, d in enumerate(case.delays) if d is not None}
    start = Start()
    try:
        with spawned(peer, backends, rig.folder, None) as running:
            process, port = running.process, running.port
            process.wait_until(lambda: accepts(port), LIMIT_SECONDS)
            _follow(process.started, port, wanted, start)
    except Failure as e:
        start.problem = str(e)
    return start


def _follow(origin: float, port: int, wanted: set[str], start: Start) -> None:
    """Lists again and again until nothing is missing."""
    while (left := origin + LIMIT_SECONDS - time.monotonic()) > 0:
        try:
            with Client(port, timeout=left) as client:
                while time.monotonic() < origin + LIMIT_SECONDS:
                    asked = time.monotonic()
                    names = set(client.tool_names())
                    t = time.monotonic()
                    if start.first is None:
                        start.first, start.first_answer, start.first_tools = t - origin, t - asked, len(names)
                    if wanted <= names:
                        start.complete = t - origin
                        return
                    time.sleep(POLL_SECONDS)
        except (OSError, http.client.HTTPException) as e:
            start.problem = f"{type(e).__name__}: {e}"
            time.sleep(POLL_SECONDS)
        except Failure as e:
            raise Failure(f"after {time.monotonic() - origin:.1f} s: {e}") from e


def _median(starts: list[Start]) -> Start:
    def of(values: list[float | None]) -> float | None:
        present = [v for v in values if v is not None]
        return statistics.median(present) if len(present) == len(values) else None

    return Start(
        of([s.first for s in starts]),
        of([s.first_answer for s in starts]),
        min(s.first_tools for s in starts),
        of([s.complete for s in starts]),
        next((s.problem for s in starts if s.complete is None), ""),
    )
