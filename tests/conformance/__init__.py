"""The official conformance suites against mcpd: a program for `make conformance`, no part of the pytest run.

`run` starts a backend, mcpd in front of it and the suites; `suites` installs them, runs one, counts its
checks.
"""
