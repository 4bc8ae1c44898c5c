from __future__ import annotations

import pytest

from mcpd.supervisor.states import (
    RUNNING,
    STARTABLE,
    STOPPABLE,
    TRANSITIONS,
    USABLE,
    Event,
    IllegalTransition,
    State,
    step,
)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_pair_is_in_the_table_or_raises(state, event):
    expected = TRANSITIONS[state].get(event)
    if expected is None:
        with pytest.raises(IllegalTransition, match=f"event '{event.value}' is not possible while {state.value}"):
            step(state, event)
    else:
        assert step(state, event) is expected


def test_every_state_is_reachable_and_none_is_a_dead_end():
    def reach(state: State) -> set[State]:
        seen, todo = {state}, [state]
        while todo:
            for following in TRANSITIONS[todo.pop()].values():
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        return seen

    assert set(TRANSITIONS) == set(State)
    for state in State:
        assert reach(state) == set(State)


def test_every_event_is_used():
    assert {event for events in TRANSITIONS.values() for event in events} == set(Event)


def test_only_somebody_who_asks_leaves_needs_operator():
    assert set(TRANSITIONS[State.NEEDS_OPERATOR]) == {Event.START, Event.STOP}


def test_sets():
    assert USABLE < RUNNING
    assert {State.STOPPED, State.BACKING_OFF, State.NEEDS_OPERATOR} == STARTABLE
    assert set(State) - {State.STOPPED, State.STOPPING} == STOPPABLE
    # What runs is stopped by way of STOPPING; what does not run is stopped at once.
    for state in STOPPABLE:
        assert step(state, Event.STOP) is (State.STOPPING if state in RUNNING else State.STOPPED)


def test_draining_leads_to_the_end_alone():
    assert {state for state, events in TRANSITIONS.items() if Event.DRAIN in events} == USABLE
    assert set(TRANSITIONS[State.DRAINING].values()) == {State.STOPPING}
    assert State.DRAINING not in USABLE | STARTABLE


def test_a_life():
    state = State.STOPPED
    for event, expected in [
        (Event.START, State.STARTING),
        (Event.READY, State.READY),
        (Event.DEGRADED, State.DEGRADED),
        (Event.RECOVERED, State.READY),
        (Event.LOST, State.BACKING_OFF),
        (Event.RETRY, State.STARTING),
        (Event.FAILED, State.BACKING_OFF),
        (Event.RETRY, State.STARTING),
        (Event.NEEDS_OPERATOR, State.NEEDS_OPERATOR),
        (Event.START, State.STARTING),
        (Event.READY, State.READY),
        (Event.DRAIN, State.DRAINING),
        (Event.STOP, State.STOPPING),
        (Event.STOPPED, State.STOPPED),
    ]:
        state = step(state, event)
        assert state is expected
