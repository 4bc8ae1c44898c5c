"""Child processes: started, fed, drained, stopped and swept. Knows no MCP.

Down: an owner (a backend) hands a `ChildSpec` to `Supervisor.spawn` and gets a `Child`: bytes go in by
`child.stdin`, come out by `child.stdout`, and what it says on stderr is kept in `child.stderr`. Up:
`child.wait()` returns an `Exit` the moment the process ends; `child.stop()` returns when nothing of its
process tree is left.

`states`, `restart` and `exits` are pure: a table, a policy and words. They serve a remote backend as well as
a child. `pipes` and `stderr` move bytes; `tree` finds and kills processes; `registry` marks and records
them, so that `strays` can sweep at start what a killed daemon left behind; `reaper` collects orphans; `cgroup` gives
each child a cgroup of its own where it can; `launch` makes a process, by way of `trampoline` where something
is to be done in it before the command runs; `process` is one child's life, `supervisor` all of them.

May import `errors`, `types` and the ranks below; never `protocol`, and nobody here decides when to restart:
the owner does.
"""
