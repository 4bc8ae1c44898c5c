"""Who calls mcpd: one HTTP port with Streamable HTTP, HTTP+SSE and the management routes, or one client on
stdio.

`endpoint` takes every HTTP request, checks Origin and Host (`guard`) and hands it to the front its path
names. A front turns bytes into messages, tells those of a session from those that stand alone (`era`), and
carries the gateway's answer back; what is legal it asks `protocol`. May import: everything of a lower rank.
"""
