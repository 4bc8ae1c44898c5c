"""What keeps a package from being built, in words for whoever builds it."""

from __future__ import annotations


class PackageError(Exception):
    """The message names what is missing or wrong, and the remedy."""
