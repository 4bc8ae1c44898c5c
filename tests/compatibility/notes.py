"""What explains the cells that say anything but yes: name → text, as it stands in the document."""

from __future__ import annotations

NOTES = {
    "versions": (
        "A legacy client may speak 2024-11-05, 2025-03-26, 2025-06-18 or 2025-11-25, each with either kind of server; "
        "of 2026-07-28 there is one version so far."
    ),
    "old-server": (
        "Requests and questions are made fit for the older of the two versions, whichever side that is. Here the "
        "`context` of a completion is left out."
    ),
    "unknown-version": (
        "`initialize` is answered with the newest version that mcpd has, and the client decides whether it can go on. "
        "An envelope with another version than 2026-07-28, a legacy one among them, is refused with the versions that "
        "it may name."
    ),
    "ping": "2026-07-28 has no `ping`: a connection is not a session that could be lost.",
    "client-info": (
        "mcpd names itself in `initialize`, and where it calls a modern server for a legacy client. The `clientInfo` "
        "of a modern client is passed on to modern servers."
    ),
    "capabilities": (
        "A legacy server hears of capabilities once, when its session begins. A server that all clients share "
        "(`instances: shared`, the default over stdio) hears of everything that mcpd passes on; what a client has not "
        "declared is then refused on its behalf when it is asked. With `instances: leased` or `per-session` the "
        "server hears what its client declared."
    ),
    "tasks": (
        "Tasks of 2025-11-25 (`execution`, `task`, `tasks/list`, `tasks/result`) and those of the extension differ in "
        "who decides to make one, and a client of any other version could use neither: mcpd offers the former to "
        "nobody and passes the latter on between modern clients and modern servers, with the server's name put in "
        "front of the task's id."
    ),
    "task-tool": (
        "A legacy server may insist that a tool runs as a task (`taskSupport: required`). mcpd makes the task, waits "
        "for it and returns what it came to; progress, questions and cancellation reach it as they reach any call."
    ),
    "older-content": (
        "What a version does not know is sent in the form nearest to it: audio as an embedded resource, a link as "
        "text with name and URI, structured content as the JSON in a text block."
    ),
    "array": (
        "Structured content is an object for legacy clients; 2026-07-28 allows any JSON. From a modern server they "
        "get the array as text, and the tool without its `outputSchema`, for which some clients would refuse the "
        "whole list."
    ),
    "reserved": (
        "The codes from -32020 to -32099 belong to 2026-07-28. What a server meant by one of them is in `data.error`; "
        "only -32021, which names a capability, is passed on."
    ),
    "not-found": (
        "-32002 up to 2025-11-25, -32602 from 2026-07-28 on, whichever of them the server sent; `data.uri` is kept."
    ),
    "caching": (
        "Only modern clients are told how long an answer may be kept, by which server it was made, and whether it is "
        "complete. Of a legacy server's lists nobody knows who else may see them, but changes are announced: "
        "`caching.list_ttl`, private. What a modern server says (here 30 s, public) is passed on, if it is less and "
        "if all servers say it. mcpd itself keeps what a modern server allows to be kept. Resources of a legacy "
        "server are not to be kept: no change of them is announced to everybody."
    ),
    "listen": (
        "Legacy clients hear of changed lists in any case and subscribe to resources one by one; modern ones ask for "
        "all of it with `subscriptions/listen`. mcpd does toward each server what that server's version has."
    ),
    "no-announcements": (
        "A server without the capability `subscribe` cannot be subscribed to. A modern client learns it from the "
        "acknowledgement, which names what is granted. Its lists are asked for anew when it is started again."
    ),
    "roots": (
        "2026-07-28 has no such notification: modern servers ask for the roots whenever they need them, and a "
        "modern client tells them when it is asked."
    ),
    "log-level": (
        "A legacy server decides for itself what it logs until somebody sets a level. A modern server logs for a "
        "request that names a level and for no other, and a modern client gets no line that it has not asked for."
    ),
    "unsolicited": (
        "Since 2026-07-28 a log line is part of the answer to a request. One that a legacy server sends outside of "
        "any call has no place to go to."
    ),
    "lost": (
        "A Streamable HTTP client of a legacy version may come back for the answer, so its call goes on; for a modern "
        "one the end of the connection takes the request back. HTTP+SSE and WebSocket connections are the session: "
        "its calls end with it. When standard input ends, calls in flight are still answered, for 15 seconds at most."
    ),
    "resumption": (
        "Streams can be taken up again over Streamable HTTP up to 2025-11-25. 2026-07-28 has no event ids: a client "
        "whose stream breaks calls again, and a modern server's broken stream is an error, as the call may have been "
        "carried out."
    ),
    "sessions": (
        "Only legacy sessions over HTTP have an id. A client with an unknown one is told so and begins anew; when a "
        "server forgets one, mcpd begins anew, sets level and subscriptions again, and repeats the request that was "
        "refused."
    ),
    "headers": (
        "Over Streamable HTTP, 2026-07-28 repeats the method, the name and annotated parameters (`x-mcp-header`) in "
        "headers. mcpd checks those of its client against the body and makes new ones from what it sends itself."
    ),
    "batch": "Only 2025-03-26 has arrays of messages; to clients of every other version they are an invalid request.",
    "refused": (
        "An elicitation that is refused has an answer that says so. A refusal of sampling, or of roots, is an error: "
        "in 2026-07-28 it cannot be sent, so mcpd ends the call of a modern server, and a modern client just does not "
        "come back. What it left waiting at a legacy server is refused when `limits.park_time`, or nearly all of "
        "`timeouts.ask`, is over."
    ),
    "elicitation-complete": (
        "`notifications/elicitation/complete` exists in 2025-11-25 alone. Modern servers never send it, and there is "
        "nothing that would carry it to a modern client; neither waits for it, either."
    ),
    "url-required": (
        "This error exists in 2025-11-25 alone. A modern client is asked to open the page, then mcpd makes the call "
        "again; if it cannot be asked, the error says which capability is missing. An older legacy client gets the "
        "page's address as text. Modern servers ask for a URL like for anything else."
    ),
    "state-only": (
        "A modern server may answer `input_required` without a question, only to be called again. A modern client "
        "does so itself; for a legacy one mcpd does. Legacy servers have no such thing: they just take their time."
    ),
    "literal-key": (
        "A modern server names its questions itself, and mcpd passes the names on. A legacy server's questions have "
        "no names, so mcpd makes them from what is asked: `user_name` for a form with the one field `name`, "
        "`user_input` for any other, `model_message`, `client_roots`. Names mean nothing but that the answer belongs "
        "to the question; a client that expects a particular one cannot have it from a legacy server. (The official "
        "conformance suite's `input-required-result-basic-elicitation` does; the name that mcpd makes is the one it "
        "looks for.)"
    ),
    "state": (
        "`requestState` goes to a modern server as it came from there. For a legacy server mcpd makes it: sealed, for "
        "one principal and one call with its arguments, and for as long as the call waits. Answers that come without "
        "it belong to no call that waits for them, so a legacy server asks anew."
    ),
    "undeclared": (
        "Only a modern server can refuse a call for want of a capability (-32021). A legacy server asks, mcpd answers "
        "that the client cannot be asked, and the tool makes of it what it likes; this one fails. A legacy client "
        "that calls a modern server's tool gets a result that names the capability."
    ),
    "indispensable": (
        "This tool asks nothing, but refuses clients that did not declare sampling. A modern server says so with "
        "-32021. A legacy one cannot: it has no such error, and where it serves all clients it was told that sampling "
        "is declared and does not refuse at all. mcpd gives -32021 to a modern client only when a legacy server asked "
        "in vain and answered the call with an error. (For that reason two checks of the official conformance suite's "
        "`server-stateless` cannot pass with a legacy server behind.)"
    ),
    "multi-select": (
        "Before 2025-11-25 a form had no choice of several values. The server is told that the user cancelled; the "
        "client is not asked."
    ),
    "older-form": (
        "Before 2025-11-25 only booleans had defaults; the others are left out. Titles of choices become `enumNames`."
    ),
    "late": (
        "A question that no call is waiting for reaches a legacy client if it is the only one that the server can "
        "mean. A modern client has no way to be asked between its requests, and a modern server none to ask."
    ),
    "down": (
        "A server that cannot be started is missed by nobody else. Its tools are unknown, and the message of the "
        "error names it; lists may not be kept meanwhile."
    ),
    "failures": (
        "The error names the server and what became of it. A stream of a legacy server that can be taken up again is "
        "tried until `timeouts.call_idle` is over. Servers on stdio are started again; the others here are remote, "
        "and mcpd goes on trying to reach them."
    ),
}
