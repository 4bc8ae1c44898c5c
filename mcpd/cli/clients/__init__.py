"""The programs that use MCP servers, as far as their configuration goes.

Where it is (places), how it is written (jsonc, toml), which servers it names (forms), what those are to mcpd
(translate, with texts), mcpd's own entry in it (own), and how that is put there (writing). The standard library alone.
"""
