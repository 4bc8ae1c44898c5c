"""`python -m bench`: measures mcpd beside its peers and prints the report."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peers import all_peers
from bench.process import Failure
from bench.report import as_json, judge, render
from bench.runner import SECTIONS, run

if TYPE_CHECKING:
    from types import FrameType

ROUNDS, SECONDS = 5, 1.0
QUICK_ROUNDS, QUICK_SECONDS = 2, 0.4
LIMIT_SECONDS = 3600  # a full run takes a quarter of that; one that hangs all the same ends itself
QUICK_PEERS = "direct,mcpd"  # what needs no installing


def parse_arguments() -> argparse.Namespace:
    names = [p.name for p in all_peers()]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help=f"a run of half a minute without installing: {QUICK_PEERS}"
    )
    parser.add_argument("--only", metavar="NAMES", help=f"these peers only, of {','.join(names)}")
    parser.add_argument("--sections", metavar="NAMES", default=",".join(SECTIONS), help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--rounds", type=int, help=f"rounds of load (default {ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"seconds of each measurement (default {SECONDS:g})")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every single figure there as well")
    parser.add_argument("--gate", action="store_true", help="exit with status 1 when a target is not met")
    arguments = parser.parse_args()
    arguments.only = (arguments.only or (QUICK_PEERS if arguments.quick else ",".join(names))).split(",")
    arguments.sections = arguments.sections.split(",")
    for what, given, known in (("peer", arguments.only, names), ("section", arguments.sections, SECTIONS)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown {what} {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    arguments.rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    arguments.seconds = arguments.seconds or (QUICK_SECONDS if arguments.quick else SECONDS)
    return arguments


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    for sign in SIGNALS:
        signal.signal(sign, signal.SIG_IGN)  # stopping is bounded, and a second Ctrl-C must not cut it short
    raise KeyboardInterrupt


def main() -> int:
    arguments = parse_arguments()
    for sign in SIGNALS:
        signal.signal(sign, interrupt)  # stopped politely, it stops what it started
    signal.alarm(LIMIT_SECONDS)
    peers = [p for p in all_peers() if p.name in arguments.only]
    try:
        report = run(
            peers,
            arguments.sections,
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            quick=arguments.quick,
        )
    except Failure as e:
        print(f"bench: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; everything it started has been stopped", file=sys.stderr)
        return 130
    print(render(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(report), indent=1))
    return int(arguments.gate and any(t.met is False for t in judge(report)))


sys.exit(main())
