"""Bytes over Trio; knows HTTP/1.1 and TLS, but no MCP.

In: `listeners` → `http_server` accepts → `http_connection` reads one request after another (`http_reader`,
with `http_head` asking h11 what a head means and remembering the answer) → the handler gets a `Request`
(`http_request`).
Out: a `Request`'s answer or `Stream` → `outgoing`, which sends at once what the kernel takes and queues the
rest, bounded. To others: `http_client` keeps a pool of connections per origin (`http_url`, `http_link`,
`tls`). `deadlines` is the one clock-watcher for all of them.

May import: `errors`, `types`, h11, trio. Nothing above this folder names h11, sockets or trio's stream
errors.
"""
