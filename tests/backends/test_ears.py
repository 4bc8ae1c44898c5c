from __future__ import annotations

import pytest

from mcpd.backends.ears import Ears
from mcpd.backends.lists import Lists
from mcpd.errors import RpcError
from mcpd.types import SessionKey
from tests.backends.parts import Heard, make_spec

ONE, TWO, ALICE, BOB, CAROL = (SessionKey(key) for key in ("one", "two", "alice", "bob", "carol"))
LISTENING = {CAROL: (SessionKey("listen"),)}
SEVERAL = {ALICE: (ONE, TWO), BOB: (ONE,), CAROL: ()}


class Several:
    """Stands for the instances: whom the owner of a link stands for."""

    def hearers(self, owner):
        return SEVERAL.get(owner, (owner,))

    def listeners(self, owner):
        return (*self.hearers(owner), *LISTENING.get(owner, ()))


def listening():
    heard, relisted = Heard(), []
    lists = Lists(make_spec(), changed=lambda kinds: None, settled=lambda: None)

    async def relist(kind):
        relisted.append(kind)

    ears = Ears(object(), heard, lists, relist=relist, instances=Several)
    return ears, heard, lists, relisted


async def test_what_a_link_says_is_what_the_server_says():
    ears, heard, lists, relisted = listening()
    ears.resource_updated(b'{"uri":"x"}', ONE)
    ears.unrelated("notifications/message", b'{"data":1}', None)
    ears.task_changed(b'{"taskId":"1"}')
    assert heard.updates == [({"uri": "x"}, ONE)]
    assert heard.strays == [("notifications/message", {"data": 1}, None)]
    assert heard.tasks == [{"taskId": "1"}]
    await ears.relist("tools")
    assert relisted == ["tools"]
    assert ears.tools is lists.tools


async def test_a_question_outside_a_call_goes_to_the_owner_of_the_link():
    ears, heard, _, _ = listening()
    heard.owner_answer = b'{"roots":[]}'
    assert await ears.ask_owner(ONE, "roots/list", b"{}") == b'{"roots":[]}'
    heard.owner_answer = None
    with pytest.raises(RpcError, match="nobody can be asked"):
        await ears.ask_owner(None, "roots/list", b"{}")
    assert heard.asked == [(ONE, "roots/list"), (None, "roots/list")]


async def test_what_a_link_says_that_several_use():
    ears, heard, _, _ = listening()
    for owner in (ALICE, BOB, CAROL):
        ears.resource_updated(b'{"uri":"x"}', owner)
    assert [owner for _, owner in heard.updates] == [ONE, TWO, ONE, "listen"]
    for owner in (ALICE, BOB, CAROL):
        ears.unrelated("notifications/message", b"{}", owner)
    assert heard.strays == [("notifications/message", {}, ONE)], "where it may be for several it is for nobody"
    heard.owner_answer = b"{}"
    for owner in (ALICE, BOB, CAROL):
        await ears.ask_owner(owner, "roots/list", b"{}")
    assert [owner for owner, _ in heard.asked] == [ALICE, ONE, CAROL], "no session is called like that"
