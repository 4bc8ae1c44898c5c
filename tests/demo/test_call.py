"""One call by itself: what it sends, and how a question ends."""

from __future__ import annotations

import pytest

from mcpd.demo.call import Call, Cancelled, ToolError


class Client:
    """Answers a question at once, from the place where a server would write it."""

    def __init__(
        self, answer=None, *, capabilities=("elicitation", "sampling"), level="info", version_has_message=True
    ):
        self.sent = []
        self.forgotten = []
        self.reply = answer
        self.call = Call(
            {"progressToken": 0},
            {name: {} for name in capabilities},
            with_message=version_has_message,
            level=lambda: level,
            send=self.send,
            new_id=lambda call: 7,
            forget=self.forgotten.append,
        )

    def send(self, message):
        self.sent.append(message)
        if message.get("id") == 7:
            if self.reply is None:
                self.call.interrupt()
            else:
                self.call.answer({"jsonrpc": "2.0", "id": 7, **self.reply})


@pytest.mark.parametrize("with_message", [True, False])
def test_progress_goes_to_the_token_even_if_that_is_zero(with_message):
    client = Client(version_has_message=with_message)
    client.call.progress(1, 2, "half")
    expected = {"progressToken": 0, "progress": 1, "total": 2} | ({"message": "half"} if with_message else {})
    assert client.sent[0]["params"] == expected


def test_messages_below_the_level_are_not_sent():
    client = Client(level="warning")
    client.call.log("info", "no")
    client.call.log("warning", "yes")
    assert [message["params"]["data"] for message in client.sent] == ["yes"]


def test_a_form_gives_what_was_entered_or_none():
    accepted = {"result": {"action": "accept", "content": {"a": 1}}}
    assert Client(accepted).call.elicit("?", {"a": {"type": "integer"}}) == {"a": 1}
    assert Client({"result": {"action": "decline"}}).call.elicit("?", {}) is None


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"type": "text", "text": "a"}, "a"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
    ],
)
def test_sampled_text_is_read_in_both_forms(content, text):
    client = Client({"result": {"role": "assistant", "model": "m", "content": content}})
    assert client.call.sample("?", 10) == text
    assert client.forgotten == [7]


def test_a_refusal_and_a_missing_capability_are_told_to_the_model():
    with pytest.raises(ToolError, match="no thanks"):
        Client({"error": {"code": -1, "message": "no thanks"}}).call.sample("?", 10)
    client = Client(capabilities=())
    with pytest.raises(ToolError, match="supports sampling"):
        client.call.sample("?", 10)
    assert client.sent == []


def test_cancelling_takes_the_open_question_back():
    client = Client(None)
    with pytest.raises(Cancelled):
        client.call.elicit("?", {})
    assert client.sent[-1]["method"] == "notifications/cancelled"
    assert client.sent[-1]["params"] == {"requestId": 7}
    with pytest.raises(Cancelled):
        client.call.wait(3600)
