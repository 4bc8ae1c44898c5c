"""What Prometheus is told: read from the parts of mcpd that keep it, at the moment when somebody asks.

To read is quick, and happens between two steps of everything else; what takes long, to make text of it, is done in a
thread.
"""

from __future__ import annotations

import platform
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from mcpd import __version__
from mcpd.metrics.text import render
from mcpd.supervisor.states import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.fronts import Fronts
    from mcpd.gateway.gateway import Gateway
    from mcpd.metrics.families import Readings, Values
    from mcpd.reload import Reloader
    from mcpd.supervisor.slots import StartSlots
    from mcpd.wire.deadlines import Deadlines

STATES: Final = (*(state.value for state in State), "asleep", "disabled")
"""Of a server, as `mcpctl servers` shows them."""

_COUNTED: Final = {
    "restarts": "mcpd_server_restarts_total",
    "calls_in_flight": "mcpd_server_calls_in_flight",
    "calls_waiting": "mcpd_server_calls_waiting",
    "tools": "mcpd_server_tools",
    "crash_looping": "mcpd_server_crash_looping",
}
"""What descriptions of servers say, and the metric that it is."""


class Collector:
    """Reads everything that `metrics.families` has."""

    def __init__(
        self, gateway: Gateway, fronts: Fronts, slots: StartSlots, reloader: Reloader, clocks: tuple[Deadlines, ...]
    ) -> None:
        self._gateway = gateway
        self._fronts = fronts
        self._slots = slots
        self._reloader = reloader
        self._clocks = clocks
        self._turn = trio.CapacityLimiter(1)
        """Several that scrape at a time share the one thread: each holds the text of everything."""

    async def scrape(self, accept: str) -> tuple[str, bytes]:
        """The media type and the text, by an Accept header."""
        async with self._turn:
            return await trio.to_thread.run_sync(partial(render, self.read(), accept))

    def read(self) -> Readings:
        """Everything as it is now; nothing of it changes afterwards."""
        gateway, reloader = self._gateway, self._reloader
        last = reloader.last
        build = (__version__, platform.python_version())
        lag, *others = (each.statistics().lag for each in self._clocks)
        for other in others:
            lag = lag.merged(other)
        readings: Readings = {
            "mcpd_calls_in_flight": {(): gateway.in_flight},
            "mcpd_calls_parked": {(): gateway.inputs.parked},
            "mcpd_start_slots_held": {(): self._slots.held},
            "mcpd_start_slots_waiting": {(): self._slots.waiting},
            "mcpd_event_loop_lag_seconds": {(): lag},
            "mcpd_reloads_total": {("ok",): reloader.succeeded, ("failed",): reloader.refused},
            "mcpd_config_last_reload_successful": {(): float(last is None or last.ok)},
            "mcpd_upgrades_total": {(): gateway.events.upgrades},
            "mcpd_build_info": {build: 1},
        }
        readings |= self._of_calls() | self._of_servers() | self._of_clients()
        return readings

    def _of_calls(self) -> Readings:
        names = {spec.name for spec in self._gateway.config.servers}
        outcomes: Values = {}
        errors: Values = {}
        durations: Values = {}
        received: Values = {}
        sent: Values = {}
        for key, series in self._gateway.tally.calls.items():
            if key[0] and key[0] not in names:
                continue  # the last calls of a server that was removed
            outcomes |= {(*key, outcome): count for outcome, count in series.outcomes.items()}
            errors |= {(*key, kind): count for kind, count in series.errors.items()}
            durations[key] = series.duration.copy()
            received[key] = series.received
            sent[key] = series.sent
        return {
            "mcpd_calls_total": outcomes,
            "mcpd_call_errors_total": errors,
            "mcpd_call_duration_seconds": durations,
            "mcpd_call_request_bytes_total": received,
            "mcpd_call_response_bytes_total": sent,
        }

    def _of_servers(self) -> Readings:
        gateway = self._gateway
        running = {backend.name: backend for backend in gateway.backends}
        states: Values = {}
        starts: Values = {}
        readings: Readings = {name: {} for name in _COUNTED.values()}
        for name in (spec.name for spec in gateway.config.servers):
            backend = running.get(name)
            now = "disabled" if backend is None else "asleep" if backend.asleep else backend.state.value
            states |= {(name, state): float(state == now) for state in STATES}
            starts[name,] = gateway.tally.starts[name]
            about = backend.describe() if backend is not None else {}
            for field, metric in _COUNTED.items():
                value = about.get(field, 0)
                assert isinstance(value, int), f"{field} is a number, or true or false"
                readings[metric][name,] = int(value)
        failures: Values = {key: count for key, count in gateway.tally.failures.items() if (key[0],) in starts}
        return readings | {
            "mcpd_server_state": states,
            "mcpd_server_starts_total": starts,
            "mcpd_server_failures_total": failures,
        }

    def _of_clients(self) -> Readings:
        gateway, fronts = self._gateway, self._fronts
        sessions = list(gateway.sessions)
        kinds = Counter(
            ("http" if each.claims is not None else "channel", each.caller.version.text) for each in sessions
        )
        listening = sum(each.outlet is not None for each in sessions)
        readings: Readings = {
            "mcpd_sessions": _floats(kinds.items()),
            "mcpd_streams": {("session",): listening, ("listen",): len(gateway.listens)},
            "mcpd_streams_resumed_total": {(): fronts.streamable.resumed},
        }
        if fronts.server is not None:
            now = fronts.server.statistics()
            readings |= {
                "mcpd_connections": {(): now.connections},
                "mcpd_connections_accepted_total": {(): now.accepted},
                "mcpd_connections_refused_total": {(): now.refused},
                "mcpd_connections_dropped_total": {(): now.dropped},
                "mcpd_http_requests_total": {(): now.requests},
                "mcpd_client_queue_bytes": {(): now.queued},
            }
        return readings


def _floats(items: Iterable[tuple[tuple[str, ...], int]]) -> Values:
    return {labels: float(count) for labels, count in items}
