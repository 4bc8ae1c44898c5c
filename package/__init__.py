"""What is installed: the Debian package (`make deb`), and `make install` for other systems.

project (pyproject.toml) and wheels (the libraries that come along, by hash) → tree (every file, in memory) with
copyright (what their metadata says) → archive (staged, and handed to dpkg-deb) → check: contents (the list) and start
(an mcpd from it). install stands apart. `files/` holds what is installed and is nowhere else. Imports nothing of mcpd.
"""
