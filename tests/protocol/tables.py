"""What every transition table must fulfil, whatever machine it is of."""

from __future__ import annotations

import pytest


def check_total(table, states, events, step, refuses):
    """Every pair of state and event is in the table, or `step` raises; the table speaks of nothing else."""
    assert set(table) == set(states)
    for state in states:
        assert set(table[state]) <= set(events)
        for event in events:
            if event in table[state]:
                assert step(state, event) == table[state][event]
            else:
                with pytest.raises(refuses):
                    step(state, event)


def reachable(table, start, target=lambda outcome: outcome):
    """The states that can be reached from `start`, itself included."""
    found, todo = {start}, [start]
    while todo:
        for outcome in table[todo.pop()].values():
            state = target(outcome)
            if state not in found:
                found.add(state)
                todo.append(state)
    return found
