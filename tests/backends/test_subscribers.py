from __future__ import annotations

from mcpd.backends.subscribers import Subscribers
from mcpd.types import SessionKey

A, B = SessionKey("a"), SessionKey("b")


def test_first_and_last():
    subscribers = Subscribers()
    assert subscribers.add("x:/1", A)
    assert not subscribers.add("x:/1", B)
    assert not subscribers.remove("x:/1", A)
    assert subscribers.remove("x:/1", B)
    assert len(subscribers) == 0
    assert subscribers.add("x:/1", B)


def test_giving_up_what_one_does_not_have():
    subscribers = Subscribers()
    assert subscribers.remove("x:/1", A), "nobody is left"
    subscribers.add("x:/1", A)
    assert not subscribers.remove("x:/1", B)
    assert len(subscribers) == 1


def test_subscribing_twice_counts_once():
    subscribers = Subscribers()
    assert subscribers.add("x:/1", A)
    assert subscribers.add("x:/1", A)
    assert subscribers.remove("x:/1", A)


def test_who_leaves_takes_everything_along():
    subscribers = Subscribers()
    for uri in ("x:/1", "x:/2", "x:/3"):
        subscribers.add(uri, A)
    subscribers.add("x:/2", B)
    assert subscribers.left(A) == ["x:/1", "x:/3"]
    assert subscribers.left(A) == []
    assert subscribers.left(B) == ["x:/2"]


def test_clearing():
    subscribers = Subscribers()
    subscribers.add("x:/1", A)
    subscribers.clear("x:/1")
    subscribers.clear("x:/2")
    assert len(subscribers) == 0
