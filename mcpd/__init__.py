"""mcpd: the gateway daemon for the Model Context Protocol.

A request goes down the folders by rank and its answer comes back up: `frontends` (who calls us) → `gateway`
(many backends, one server) → `backends` (whom we call) → `supervisor` and `wire` (processes and bytes) with
`protocol` (MCP without I/O) and `config` beside them. Imports point to a strictly lower rank or stay in the folder.
"""

__version__ = "0.1.0"
