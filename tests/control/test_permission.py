from __future__ import annotations

import grp

import pytest

from mcpd.control.permission import GROUP, Permission, group_id
from mcpd.control.refusal import Refusal
from mcpd.wire.credentials import Credentials

OWN, GROUP_ID = 900, 901


@pytest.mark.parametrize(
    ("uid", "groups", "gid", "may"),
    [
        (0, {0}, GROUP_ID, True),
        (OWN, {5}, GROUP_ID, True),
        (1000, {1000, GROUP_ID}, GROUP_ID, True),
        (1000, {1000}, GROUP_ID, False),
        (1000, {1000}, None, False),
        (OWN, {5}, None, True),
    ],
)
def test_root_the_own_user_and_the_group_may_change_things(uid, groups, gid, may):
    permission, who = Permission(OWN, gid), Credentials(1, uid, frozenset(groups))
    assert permission.may_change(who) is may
    if may:
        permission.require_change(who)
    else:
        with pytest.raises(Refusal) as caught:
            permission.require_change(who)
        assert (caught.value.status, caught.value.code) == (403, "not_permitted")
        assert (GROUP in caught.value.remedy) is (gid is not None)


@pytest.mark.parametrize("uid", [0, OWN, 1000])
def test_what_mcpd_started_may_not_whoever_it_is(uid):
    who = Credentials(77, uid, frozenset({GROUP_ID}), ours=True)
    assert not Permission(OWN, GROUP_ID).may_change(who)
    with pytest.raises(Refusal, match=r"process 77, which mcpd itself started .* may look, but not change") as caught:
        Permission(OWN, GROUP_ID).require_change(who)
    assert "admin token" in caught.value.remedy
    Permission(OWN, GROUP_ID).require_look(who)
    with pytest.raises(Refusal, match=r"process 77, .* may not look \(control.look\)"):
        Permission(OWN, GROUP_ID, "operators").require_look(who)


def test_who_is_not_known_may_not():
    assert not Permission(0, None).may_change(None)
    with pytest.raises(Refusal, match="unknown"):
        Permission(0, None).require_change(None)


def test_the_group_need_not_be_there():
    try:
        expected = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        expected = None
    assert group_id() == expected


@pytest.mark.parametrize(
    ("look", "uid", "may"), [("everyone", 1000, True), ("operators", 1000, False), ("operators", OWN, True)]
)
def test_to_look_may_be_for_operators_alone(look, uid, may):
    permission, who = Permission(OWN, None, look), Credentials(1, uid, frozenset({1000}))
    if may:
        permission.require_look(who)
    else:
        with pytest.raises(Refusal, match=r"user 1000 may not look \(control.look\)"):
            permission.require_look(who)


def test_who_may_not_look_is_not_told_that_they_may():
    with pytest.raises(Refusal, match="neither look nor change"):
        Permission(OWN, None, "operators").require_change(Credentials(1, 1000, frozenset()))
