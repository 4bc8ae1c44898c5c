"""Limits of cgroups, on a kernel that enforces them: `make test-cgroups` runs these tests in a virtual machine.

Elsewhere they run where the controllers are there, which is to say on hardly any machine that develops or builds mcpd,
and are skipped with the reason where they are not.
"""
