"""Three small MCP servers to try mcpd with: `python -m mcpd.demo.calculator`, `.notes` and `.clock`.

Each is a stand-alone program that speaks the handshake versions of MCP on its standard input and output, as
any server from elsewhere would. `stdio_server` is what they share: it reads messages, keeps the calls in
flight and writes answers. It hands what is not a call to `directory`, which knows what the server offers;
`offer` has the forms of that in each version; `call` is what a tool gets to talk back with. Only the
standard library is imported, and nothing of mcpd outside this folder: a demo server starts in the time of a
bare interpreter, and sharing code with mcpd would prove nothing about it.
"""
