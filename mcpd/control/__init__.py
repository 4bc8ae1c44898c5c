"""Who operates mcpd: HTTP and JSON over a Unix socket, for `mcpctl`, scripts and `curl --unix-socket`.

`listener` opens the socket, `server` checks every request and who sends it (`permission`), and hands it to the
operation that its method and path name; all of them are in the table of `operations`. What cannot be done is answered
by a `refusal`. `client` is the other side; it needs the standard library alone. May import: everything of a lower rank.
"""
