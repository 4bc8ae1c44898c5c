"""TLS towards backends: the context for connections that mcpd opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpd.errors import ConfigError

if TYPE_CHECKING:
    import ssl


def client_context(
    *,
    verify: bool = True,
    ca_file: str | None = None,
    client_cert: str | None = None,
    client_key: str | None = None,
) -> ssl.SSLContext:
    """A context that trusts the system's authorities, or only those in `ca_file` (PEM). Blocking: it reads
    files.

    Raises: ConfigError, when a file cannot be read or is not what it should be.
    """
    # Imported here because ssl with OpenSSL takes 3-4 MiB, and a gateway to local backends never needs it.
    import ssl

    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"certificate authorities cannot be read: {error.strerror or error}",
            file=ca_file or "",
            remedy="a PEM file with one or more certificates is needed",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if client_cert is not None:
        try:
            context.load_cert_chain(client_cert, client_key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"client certificate or key cannot be used: {error.strerror or error}",
                file=client_cert,
                remedy="PEM files are needed; the key must belong to the certificate and have no passphrase",
            ) from None
    return context
