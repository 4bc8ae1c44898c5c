"""Ten mebibytes there and back: whether every byte arrives, spelled as it was sent."""

from __future__ import annotations

import http.client
import json
import random
import time
from dataclasses import dataclass, field

from bench.client import Client
from bench.peers import Peer, Running, started
from bench.process import Failure
from bench.rig import BACKEND, Rig, say
from bench.throughput import variant_name

SIZE = 10 << 20
SEED = 20_251_125  # any: the same text in every run
# Spellings that a gateway loses when it decodes and encodes again: each is one of several for its character.
SPELLINGS = ["é", "\\u00e9", "\\/", "/", '\\"', "\\\\", "\\n", "\\u000a", "😀", "\\ud83d\\ude00", "\\u0041"]
BLOCK = 4096

BYTES, VALUE = "every byte", "same value, spelled differently"


@dataclass
class Exact:
    """`results[variant]["argument" | "result"]`: (verdict, seconds)."""

    results: dict[str, dict[str, tuple[str, float]]] = field(default_factory=dict)


def spelled_text(size: int = SIZE) -> bytes:
    """A JSON string of about this many bytes, quotes included, in mixed spellings."""
    source = random.Random(SEED)
    out = bytearray(b'"')
    while len(out) < size - BLOCK - 32:
        out += source.randbytes(BLOCK // 2).hex().encode() + source.choice(SPELLINGS).encode()
    return bytes(out) + b"x" * (size - 1 - len(out)) + b'"'


def measure_exact(rig: Rig) -> Exact:
    """Every peer and backend, one argument and one result each."""
    out, text = Exact(), spelled_text()
    for peer in rig.peers:
        for kind in peer.kinds:
            name = variant_name(peer, kind)
            say(f"10 MiB: {name}")
            results = out.results[name] = {}
            try:
                with started(peer, {BACKEND: rig.backend(kind)}, rig.folder, rig.cpu) as running:
                    results["argument"] = _timed(running, peer, "echo", b'{"text":' + text + b"}", text)
                    blob = b'"' + b"x" * SIZE + b'"'
                    results["result"] = _timed(running, peer, "blob", b'{"n":%d}' % SIZE, blob)
            except Failure as e:
                results["argument"] = results["result"] = (str(e), 0.0)
    return out


def _timed(running: Running, peer: Peer, tool: str, arguments: bytes, expected: bytes) -> tuple[str, float]:
    name = peer.tool(BACKEND, tool, 1)
    begin = time.monotonic()
    try:
        with Client(running.port) as client:
            answer = client.request("tools/call", b'{"name":"%s","arguments":%s}' % (name.encode(), arguments))
    except (OSError, http.client.HTTPException, Failure) as e:
        return f"refused: {e or type(e).__name__}", time.monotonic() - begin
    took = time.monotonic() - begin
    if expected in answer:
        return BYTES, took
    text = json.loads(answer)["result"]["content"][0]["text"]
    return (VALUE if text == json.loads(expected) else "damaged"), took
