"""What operators are shown of the gateway, wherever they ask: over HTTP or on the control socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcpd.gateway.gateway import Gateway


def servers(gateway: Gateway) -> list[dict[str, object]]:
    """Every configured server with its true state, in the order of the configuration."""
    running = {backend.name: backend for backend in gateway.backends}
    return [
        running[spec.name].describe() if spec.name in running else {"name": spec.name, "state": "disabled"}
        for spec in gateway.config.servers
    ]
