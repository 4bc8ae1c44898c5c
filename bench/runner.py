"""One run from installing to the report: the sections in order, whatever happens to the peers."""

from __future__ import annotations

import platform
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.bridge import measure_bridge
from bench.command import measure_command
from bench.exact import measure_exact
from bench.memory import measure_memory
from bench.report import Report
from bench.rig import Rig, say
from bench.startup import measure_startup
from bench.throughput import measure_throughput

if TYPE_CHECKING:
    from bench.peers import Peer

SECTIONS = ("load", "bridge", "memory", "start", "mcpctl", "exact")


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def run(peers: list[Peer], sections: list[str], *, rounds: int, seconds: float, quick: bool) -> Report:
    """Installs, measures, and stops all it started.

    Raises: Failure when the benchmark's own programs cannot be compiled.
    """
    for peer in peers:
        say(f"preparing {peer.name}: {peer.title}")
        peer.prepare()
    with tempfile.TemporaryDirectory(prefix="mcpd-bench-") as folder:
        rig = Rig.create(Path(folder), peers, rounds=rounds, seconds=seconds, quick=quick)
        report = Report(_machine(rig), peers)
        with rig.http_echo():
            if "load" in sections:
                report.throughput = measure_throughput(rig)
            if "bridge" in sections:
                report.bridge = measure_bridge(rig)
            if "memory" in sections:
                report.memory = measure_memory(rig)
            if "start" in sections:
                report.startup = measure_startup(rig)
            if "mcpctl" in sections:
                report.command = measure_command(rig)
            if "exact" in sections:
                report.exact = measure_exact(rig)
    return report


def _machine(rig: Rig) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpu": cpu_model(),
        "gateway_cpu": rig.cpu,
        "load_cpu": rig.load_cpu,
        "rounds": rig.rounds,
        "seconds": rig.seconds,
    }
