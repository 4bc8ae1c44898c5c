"""What every section works with: the compiled programs, the CPUs, the run's folder, the echo backends."""

from __future__ import annotations

import contextlib
import http.client
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.load import Generator
from bench.process import Process, accepts, choose_cpus, free_port
from bench.tools import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.peers import Backend, Peer

BACKEND = "be"
ECHO_SECONDS = 10.0


def say(text: str) -> None:
    """Progress, on stderr: stdout is the report."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


@dataclass
class Rig:
    """One run of the benchmark."""

    folder: Path
    peers: list[Peer]
    rounds: int
    seconds: float
    warmup: float
    quick: bool
    echo: Path
    generator: Generator
    cpu: int
    load_cpu: int
    echo_port: int = 0

    @classmethod
    def create(cls, folder: Path, peers: list[Peer], *, rounds: int, seconds: float, quick: bool) -> Rig:
        """Compiles what there is to compile."""
        cpu, load_cpu = choose_cpus()
        generator = Generator(build("load"), load_cpu)
        warmup = min(0.3, seconds / 3)
        return cls(folder, peers, rounds, seconds, warmup, quick, build("echo"), generator, cpu, load_cpu)

    @contextlib.contextmanager
    def http_echo(self) -> Iterator[None]:
        """Runs the HTTP echo backend that all peers of the run share, beside the load."""
        self.echo_port = free_port()
        argv = [str(self.echo), "http", str(self.echo_port), "--cpu", str(self.load_cpu)]
        with Process(argv, log=self.folder / "echo.log") as process:
            process.wait_until(lambda: accepts(self.echo_port), ECHO_SECONDS)
            yield

    def echo_sessions(self) -> int:
        """How many sessions the HTTP echo backend has open."""
        connection = http.client.HTTPConnection("127.0.0.1", self.echo_port, timeout=ECHO_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", "/sessions")
            return int(connection.getresponse().read())

    def backend(self, kind: str) -> Backend:
        """The echo backend as a stdio command, which moves itself to the load's CPU, or as a URL."""
        if kind == "http":
            return f"http://127.0.0.1:{self.echo_port}/mcp"
        return [str(self.echo), "stdio", "--cpu", str(self.load_cpu)]
