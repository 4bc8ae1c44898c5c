"""The official conformance suites against mcpd. `run` is a program for `make conformance`; pytest runs nothing here."""
