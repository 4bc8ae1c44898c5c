"""`python -m tests.fuzz --seconds N`: every target for N seconds each."""

from __future__ import annotations

import argparse
import subprocess
import sys

TARGETS = ("jsonrpc", "lines", "sse", "http", "convert", "uritemplate")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    status = 0
    for target in TARGETS:
        print(f"== {target}", flush=True)
        command = [sys.executable, "-m", f"tests.fuzz.{target}", "--seconds", str(seconds)]
        status = subprocess.run(command, check=False).returncode or status
    return status


if __name__ == "__main__":
    sys.exit(main())
