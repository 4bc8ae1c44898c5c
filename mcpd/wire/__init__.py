"""Bytes over Trio; knows HTTP/1.1 and TLS, but no MCP.

In: `listeners` → `http_server` accepts → `http_connection` serves one request after another
(`http_reader` reads them, `http_head` asks h11 what a head means and remembers it) → the handler gets a
`Request` (`http_request`). Out: a `Request`'s answer or `Stream` → `outgoing`, which sends at once what
the kernel takes and queues the rest. To others: `http_client` → `http_pool` (connections kept per origin)
→ `http_link` (plain or `tls`) → `http_response` with its `http_body`. `http_limits` holds the bounds of
both sides, `deadlines` watches the clock for all of them. A request that asks for it becomes a `websocket`, and a
connection of the client's can: `websocket_handshake`, then `websocket_stream` under trio-websocket, which sees no more
than `websocket_frames` lets through.

May import: `errors`, `types`, h11, trio, trio-websocket. Nothing above names h11, sockets or trio's stream errors.
"""
