"""The Debian package: `make deb`.

project (pyproject.toml) and wheels (the libraries that come along, by hash) → tree (every file, in memory) with
copyright (what their metadata says) → archive (staged, and handed to dpkg-deb) → check: contents (the list) and start
(an mcpd from it). `files/` holds what goes into the package and is nowhere else. Imports nothing of mcpd.
"""
