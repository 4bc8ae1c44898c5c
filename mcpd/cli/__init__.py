"""`mcpctl`: the operator's hand. One file a verb, each with its arguments and what it does with mcpd's answer.

`main` reads the command line and turns what goes wrong into a message and an exit status. Nothing but the control
socket is between it and mcpd. May import: `control.client`, the standard library, and nothing that is slow.
"""
