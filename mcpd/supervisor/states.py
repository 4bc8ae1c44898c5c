"""The states of a backend, whether a child process or a remote server.

Theory of operation
    1. Everything that decides which state follows which is in TRANSITIONS. A pair that is missing is illegal.
    2. RETRY is what mcpd does by itself when a delay is over; START is what somebody asked for (an operator,
       a reload, a call that wakes a lazy backend). So NEEDS_OPERATOR accepts START and refuses RETRY.
    3. FAILED is before it was ready, LOST after. Both mean "will be tried again". ENDED means "ended, and
       the restart policy leaves it at that".
    4. STOP from a state in which nothing runs leads to STOPPED at once; otherwise STOPPING lasts until
       STOPPED.
    5. DRAIN is the polite STOP of what is usable: calls in flight may finish, then STOP follows. What is lost
       meanwhile is not tried again; what is not usable has nothing to finish, and is stopped.
"""

from __future__ import annotations

import enum

from mcpd.errors import McpdError


class State(enum.Enum):
    """What a backend is doing."""

    STOPPED = "stopped"
    """Nothing runs and nothing is planned: not started yet, stopped, idle-stopped, or ended for good."""
    STARTING = "starting"
    """Spawned or connecting; the handshake and the catalogue are not complete."""
    READY = "ready"
    """Usable: handshake done, catalogue loaded, log level and subscriptions replayed."""
    DEGRADED = "degraded"
    """Usable, but something is missing or late: a list failed, a ping was not answered."""
    BACKING_OFF = "backing-off"
    """Failed or lost; a restart is due after a delay."""
    NEEDS_OPERATOR = "needs-operator"
    """Trying again would not help: command not found, 401, 403, 410."""
    DRAINING = "draining"
    """Calls in flight may finish, no new ones are taken: about to be stopped, replaced or left idle."""
    STOPPING = "stopping"
    """Being stopped; something may still run."""


class Event(enum.Enum):
    """What happens to a backend."""

    START = "start"
    READY = "ready"
    FAILED = "failed"
    LOST = "lost"
    DEGRADED = "degraded"
    RECOVERED = "recovered"
    RETRY = "retry"
    NEEDS_OPERATOR = "needs-operator"
    ENDED = "ended"
    DRAIN = "drain"
    STOP = "stop"
    STOPPED = "stopped"


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.STOPPED: {
        Event.START: State.STARTING,
    },
    State.STARTING: {
        Event.READY: State.READY,
        Event.DEGRADED: State.DEGRADED,
        Event.FAILED: State.BACKING_OFF,
        Event.NEEDS_OPERATOR: State.NEEDS_OPERATOR,
        Event.ENDED: State.STOPPED,
        Event.STOP: State.STOPPING,
    },
    State.READY: {
        Event.DEGRADED: State.DEGRADED,
        Event.LOST: State.BACKING_OFF,
        Event.NEEDS_OPERATOR: State.NEEDS_OPERATOR,
        Event.ENDED: State.STOPPED,
        Event.DRAIN: State.DRAINING,
        Event.STOP: State.STOPPING,
    },
    State.DEGRADED: {
        Event.RECOVERED: State.READY,
        Event.LOST: State.BACKING_OFF,
        Event.NEEDS_OPERATOR: State.NEEDS_OPERATOR,
        Event.ENDED: State.STOPPED,
        Event.DRAIN: State.DRAINING,
        Event.STOP: State.STOPPING,
    },
    State.BACKING_OFF: {
        Event.RETRY: State.STARTING,
        Event.START: State.STARTING,
        Event.STOP: State.STOPPED,
    },
    State.NEEDS_OPERATOR: {
        Event.START: State.STARTING,
        Event.STOP: State.STOPPED,
    },
    State.DRAINING: {
        Event.LOST: State.STOPPING,
        Event.STOP: State.STOPPING,
    },
    State.STOPPING: {
        Event.STOPPED: State.STOPPED,
    },
}

USABLE = frozenset({State.READY, State.DEGRADED})
"""Calls can be sent; what may be drained."""

RUNNING = frozenset({State.STARTING, State.READY, State.DEGRADED, State.DRAINING, State.STOPPING})
"""A process or a connection may exist."""

STARTABLE = frozenset(state for state, events in TRANSITIONS.items() if Event.START in events)
STOPPABLE = frozenset(state for state, events in TRANSITIONS.items() if Event.STOP in events)


class IllegalTransition(McpdError):
    """An event that the state does not accept: a mistake in mcpd, not of a backend."""

    def __init__(self, state: State, event: Event) -> None:
        self.state = state
        self.event = event
        super().__init__(f"event '{event.value}' is not possible while {state.value}")


def step(state: State, event: Event) -> State:
    """The state that follows.

    Raises: IllegalTransition when the table has no such pair.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(state, event) from None
