"""What mcpd must survive for days, in minutes: thousands of ends of children that misbehave, and its own.

`python -m tests.soak` drives a daemon as a process (`rig`) in front of hostile servers (`hostile_server`) through the
parts (`starts`, `recovery`, `cycles`, `kills`), and prints what was measured beside what it must be (`report`).
"""
