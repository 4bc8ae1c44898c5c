"""The Debian package, offline: with wheels made here. `make deb ARGS=--check` looks at the real one."""
