"""Clients and servers of both eras, cancels, questions, drops and restarts, in random mixtures.

Held: no message at the wrong client, no answer lost, none twice, and at the end nothing is left: no call in flight, no
lease, no park, no task of a call.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from mcpd.backends.backend import ManagedBackend
from mcpd.config.model import Config, Restart, ServerSpec, Timeouts
from mcpd.gateway.gateway import Gateway
from mcpd.gateway.sessions import Sessions
from mcpd.gateway.vault import Vault
from mcpd.wire.deadlines import Deadlines
from tests.bridge.clients import LegacyClient, ModernClient
from tests.bridge.server import MemoryConnector, World

SEEDS = range(60)
CALLS = 60
SETTLED = 3000.0
"""Seconds after the last call in which everything that waits must have come to its end."""


def servers(chance: random.Random) -> list[tuple[ServerSpec, bool, bool]]:
    """Three servers: (spec, modern, one shared channel)."""
    made = []
    for number in range(3):
        modern, shared = chance.random() < 0.4, chance.random() < 0.6
        instances: Any = chance.choice(["shared", "leased", "per-session"])
        spec = ServerSpec(
            name=f"s{number}",
            transport="stdio" if shared else "streamable-http",
            command="none" if shared else None,
            url=None if shared else "http://127.0.0.1:1/mcp",
            instances=instances,
            max_instances=chance.choice([1, 2, 8]),
            timeouts=Timeouts(init=5, call_idle=30, call_max=120, list=5, ask=20),
            restart=Restart(initial=0.01, cap=0.1),
        )
        made.append((spec, modern, shared))
    return made


def plan(chance: random.Random) -> dict[str, Any]:
    return {
        "before": chance.choice([0, 0.01, 0.1]),
        "after": chance.choice([0, 0.01, 0.1]),
        "progress": chance.choice([0, 0, 3]),
        "asks": chance.choice([0, 0, 1, 1, 2]),
    }


@pytest.mark.parametrize("seed", SEEDS)
async def test_everybody_hears_what_is_theirs_once_and_nothing_is_left(seed, tmp_path, autojump_clock):
    chance = random.Random(seed)
    random.seed(seed)  # the jitter of restarts
    world, deadlines = World(), Deadlines()
    config = Config()
    vault = Vault(tmp_path, now=0.0, session_age=config.limits.session_age)
    gateway = Gateway(config, sessions=Sessions(vault, config.limits, clock=lambda: 0.0, first_serial=1))
    gateway.sessions.forget = gateway.forget
    connectors = [
        MemoryConnector(world, spec, deadlines, modern=modern, shared=shared)
        for spec, modern, shared in servers(chance)
    ]
    backends = [ManagedBackend(each.spec, each, gateway.notices) for each in connectors]  # type: ignore[arg-type]
    gateway.use(backends)
    async with trio.open_nursery() as daemon:
        await daemon.start(deadlines.run)
        await daemon.start(gateway.run)
        for backend in backends:
            daemon.start_soon(backend.run)
        await gateway.settled()
        clients: list[LegacyClient | ModernClient] = []
        for number in range(chance.randint(2, 5)):
            able = chance.random() < 0.8
            if chance.random() < 0.5:
                clients.append(LegacyClient(f"legacy{number}", gateway, chance, can_answer=able))
            else:
                clients.append(ModernClient(f"modern{number}", gateway, chance, daemon, can_answer=able))
        async with trio.open_nursery() as calls:
            for _ in range(CALLS):
                client, connector = chance.choice(clients), chance.choice(connectors)
                tool = f"{connector.spec.name}_work"
                cancel_after = chance.choice([1e6, 1e6, 1e6, chance.uniform(0, 0.5)])
                calls.start_soon(client.call, tool, plan(chance), cancel_after)
                await trio.sleep(chance.choice([0, 0.01, 0.05, 0.3]))
                if chance.random() < 0.05:
                    connector.crash()
        await trio.sleep(SETTLED)
        for client in clients:
            for ledger in client.ledgers.values():
                ended = ledger.cancelled or ledger.abandoned or len(ledger.outcomes) == 1
                assert ended, f"{ledger.mark} has {len(ledger.outcomes)} outcomes"
        assert world.alive == 0
        assert gateway.in_flight == 0
        assert len(gateway.inputs) == 0
        for backend in backends:
            assert backend.describe()["calls_in_flight"] == 0
        daemon.cancel_scope.cancel()
