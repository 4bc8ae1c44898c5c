"""Whom mcpd calls: child processes and remote servers, each behind the same contract (`base`).

A `backend` keeps one server running and its catalogue known, whatever happens to the process or the network.
It talks through links: a `link` is one legacy session, and a carrier (`stdio`, `http`, `sse`) moves its
messages. Calls come down from the gateway and return their result; notifications, questions and changes of
the catalogue go up through what was handed down. May import: `mcpd.supervisor`, `mcpd.wire`,
`mcpd.protocol`, `mcpd.config`, `mcpd.errors`.
"""
