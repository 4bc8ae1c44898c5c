"""What `mcpctl doctor` looks at: whether mcpd can be reached and why not (reaching), and what it says of itself and of
where it runs (running). Each look gives findings.
"""
