"""What mcpd tells Prometheus: which metrics there are (`families`), what they are kept in (`histogram`) and how they
become text (`text`).

Numbers are kept as plain integers where things happen, and read when somebody asks; nothing here knows who keeps them.
May import: the standard library; `text` alone prometheus-client.
"""
