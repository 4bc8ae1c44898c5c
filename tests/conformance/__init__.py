"""The official conformance suites against mcpd: a program for `make conformance`.

`run` starts backends, mcpd in front of them and the suites; `suites` installs those, runs one and counts its checks;
`expectations` says what each run must give; `backends` says what stands behind mcpd, and how mcpd is told of it;
`drive` is the client that the client suite starts, with mcpd in front of the suite's mock server.
"""
