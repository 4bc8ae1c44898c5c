"""Every metric that mcpd has: its name, kind, labels and meaning. mcpd(8), METRICS, is held to this table.

Rules.
1. Labels are bounded: servers are those of the configuration, everything else is from a fixed set. No session, user,
   or name that a client chose.
2. A series of a server that is configured no more is gone.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from mcpd.metrics.histogram import Histogram


class Kind(enum.StrEnum):
    """As Prometheus has it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """One family."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


Values: TypeAlias = "dict[tuple[str, ...], float | Histogram]"
Readings: TypeAlias = "dict[str, Values]"
"""What was read: of each metric, by its name, the value for each combination of its labels' values."""

_SERVER: Final = ("server",)
_CALL: Final = ("server", "method")

METRICS: Final = (
    Metric("mcpd_calls_total", Kind.COUNTER, "Calls of tools, prompts and resources that ended.", (*_CALL, "outcome")),
    Metric("mcpd_call_duration_seconds", Kind.HISTOGRAM, "How long calls took, from request to result.", _CALL),
    Metric(
        "mcpd_call_errors_total", Kind.COUNTER, "Calls that did not end well, by what went wrong.", (*_CALL, "kind")
    ),
    Metric("mcpd_call_request_bytes_total", Kind.COUNTER, "Bytes of the params of calls, from clients.", _CALL),
    Metric("mcpd_call_response_bytes_total", Kind.COUNTER, "Bytes of the results of calls, to clients.", _CALL),
    Metric("mcpd_calls_in_flight", Kind.GAUGE, "Requests that were begun and have not ended, parked ones too."),
    Metric("mcpd_calls_parked", Kind.GAUGE, "Calls that wait for the input of their client."),
    Metric(
        "mcpd_server_state", Kind.GAUGE, "1 for the state that the server is in, 0 for all others.", ("server", "state")
    ),
    Metric("mcpd_server_crash_looping", Kind.GAUGE, "1 while the server keeps failing.", _SERVER),
    Metric("mcpd_server_starts_total", Kind.COUNTER, "Attempts to start the server, or to connect to it.", _SERVER),
    Metric("mcpd_server_restarts_total", Kind.COUNTER, "Attempts that followed a failure or an end.", _SERVER),
    Metric("mcpd_server_failures_total", Kind.COUNTER, "Failed attempts and lost connections.", ("server", "kind")),
    Metric("mcpd_server_calls_in_flight", Kind.GAUGE, "Requests that the server has not answered.", _SERVER),
    Metric("mcpd_server_calls_waiting", Kind.GAUGE, "Calls that wait for the server to come up.", _SERVER),
    Metric("mcpd_server_tools", Kind.GAUGE, "Tools that the server lists.", _SERVER),
    Metric("mcpd_start_slots_held", Kind.GAUGE, "Children that are starting up."),
    Metric("mcpd_start_slots_waiting", Kind.GAUGE, "Children that wait for their turn to start."),
    Metric("mcpd_sessions", Kind.GAUGE, "Sessions in memory.", ("connection", "protocol")),
    Metric("mcpd_streams", Kind.GAUGE, "Streams of news that clients hold open.", ("kind",)),
    Metric("mcpd_connections", Kind.GAUGE, "Connections to the HTTP port."),
    Metric("mcpd_connections_accepted_total", Kind.COUNTER, "Connections that were accepted."),
    Metric("mcpd_connections_refused_total", Kind.COUNTER, "Connections that were refused, all being in use."),
    Metric("mcpd_connections_dropped_total", Kind.COUNTER, "Connections whose clients read too slowly or not at all."),
    Metric("mcpd_http_requests_total", Kind.COUNTER, "HTTP requests of all routes."),
    Metric("mcpd_client_queue_bytes", Kind.GAUGE, "Bytes that clients have not read yet."),
    Metric("mcpd_streams_resumed_total", Kind.COUNTER, "Event streams that clients went on with after a loss."),
    Metric("mcpd_event_loop_lag_seconds", Kind.HISTOGRAM, "How late the event loop came to what was due."),
    Metric("mcpd_reloads_total", Kind.COUNTER, "Reloads of the configuration.", ("result",)),
    Metric("mcpd_config_last_reload_successful", Kind.GAUGE, "0 when the last reload failed, else 1."),
    Metric("mcpd_upgrades_total", Kind.COUNTER, "Upgrades in place since the process began."),
    Metric("mcpd_build_info", Kind.GAUGE, "Always 1; the labels say what runs.", ("version", "python")),
)
"""In the order in which they are shown."""

PROCESS: Final = (
    Metric("process_virtual_memory_bytes", Kind.GAUGE, ""),
    Metric("process_resident_memory_bytes", Kind.GAUGE, ""),
    Metric("process_start_time_seconds", Kind.GAUGE, ""),
    Metric("process_cpu_seconds_total", Kind.COUNTER, ""),
    Metric("process_open_fds", Kind.GAUGE, ""),
    Metric("process_max_fds", Kind.GAUGE, ""),
)
"""What prometheus-client reads of the process."""
