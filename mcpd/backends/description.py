"""What operators are told of one server: its state in words and numbers, and no secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpd.supervisor.states import USABLE, State

if TYPE_CHECKING:
    from mcpd.backends.connector import Connector
    from mcpd.backends.instances import Instances
    from mcpd.backends.leases import Leases
    from mcpd.backends.link import Link
    from mcpd.backends.lists import Lists
    from mcpd.backends.lobby import Lobby
    from mcpd.backends.pace import Pace
    from mcpd.protocol.handshake import ServerHello


class Description:
    """Of one server. The parts of it that last are given once, what changes with each description."""

    def __init__(
        self, connector: Connector, lists: Lists, instances: Instances, leases: Leases, pace: Pace, lobby: Lobby
    ) -> None:
        self._connector = connector
        self._lists = lists
        self._instances = instances
        self._leases = leases
        self._pace = pace
        self._lobby = lobby

    def of(
        self,
        state: State,
        asleep: bool,
        hello: ServerHello | None,
        link: Link | None,
        *,
        restarts: int,
    ) -> dict[str, object]:
        """As JSON has it. `error`, and `failure` with its kind, reason and remedy apart, while something is the matter;
        `next_attempt_in` seconds while an attempt is planned.
        """
        spec = self._connector.spec
        about: dict[str, object] = {
            "name": spec.name,
            "state": state.value,
            "transport": self._connector.transport,
            "instances": spec.instances,
            "protocol_version": hello.version.text if hello is not None else None,
            "catalogue": "fetched" if self._lists.fetched else "none" if hello is None else "kept",
            **self._lists.catalogue.counts(),
            "restarts": restarts,
            "calls_in_flight": sum(each.in_flight for each in (link, self._instances, self._leases) if each),
            "calls_waiting": len(self._lobby),
            "sessions": len(self._instances),
            "leases": len(self._leases),
            **self._pace.describe(),
        }
        if asleep:
            about["asleep"] = True
        if self._connector.pid is not None and state in USABLE:
            about["pid"] = self._connector.pid
        if self._lists.failed and state is State.DEGRADED:
            about["error"] = f"could not be listed: {', '.join(sorted(self._lists.failed))}"
        return about
