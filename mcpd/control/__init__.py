"""Who operates mcpd: HTTP and JSON over a Unix socket, for `mcpctl`, scripts and `curl --unix-socket`.

`listener` opens the socket, `server` finds out who sends a request and whether they may (`permission`). `desk` carries
it out and answers: it has the request read (`reading`) against the `table` row that its method and path name, and
gives the operation an `ask`. The rows are in one module a noun (`status`, `servers`, `changes`, `configuration`), which
`operations` puts together. What cannot be done is answered by a `refusal`. `client` is the other side; it needs the
standard library alone. May import: everything of a lower rank.
"""
