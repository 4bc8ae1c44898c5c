"""Real clients through mcpd to real servers: `make interop`, and a quick form of it for every test run.

`packages` names official SDKs, the Inspector and published servers, which go into .cache/interop; `place` makes the
files that the servers work on, and the configuration; `clients/` holds one small program for each version of an
SDK, which does over MCP what it is told line by line; `kinds` says which clients there are, in which modes; `client`
and `inspector` are how a check speaks to them, `visit` is what it gets in its hands; `checks` and `server_checks` say
what must come out, and what a client cannot express; `run` puts them together, `matrix` prints. Nothing here imports
mcpd or shares code with it: everything goes through the command line and the sockets.
"""
