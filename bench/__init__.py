"""The benchmark: mcpd next to the direct path and to other gateways, measured in one interleaved run.

`make bench` runs it; `python -m bench --help` tells the options and README.md how to read what it prints.
Data goes one way: `tools` compiles the load generator and the echo backend and installs peers under
`.cache/bench`; `peers` says how each peer is started; `process` runs and accounts for processes; `load`
drives the generator; `throughput`, `memory`, `startup` and `exact` measure with what `rig` gives them;
`report` prints medians and judges the targets; `runner` is the order of it all. Nothing here imports mcpd:
it is measured as a process, like the others.
"""
