"""MCP without I/O: bytes → messages → decisions → bytes.

Codecs (`jsonrpc`, `lines`, `sse`) turn bytes into messages and back. Tables (`versions`, `methods`, `convert`) say what
each version of the protocol has. State machines (`handshake`, `exchange`, `exchange_client`) say what is legal when, in
both roles; `peer` keeps the ids of one connection to a backend; `calls` is the form in which the gateway's middle knows
a request. Nothing here waits, reads a clock or a socket, draws a random number or logs: time and ids are handed in,
output is the return value. May import: `mcpd.errors`, msgspec.
"""
