"""TLS to servers: a plain context, and those of libpq's modes for the parameters of a URL alone.

asyncpg's own contexts follow ``PGSSLROOTCERT``, ``SSLKEYLOGFILE`` and files in the home folder, and
fail if that folder cannot be read.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final

MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""The values of ``sslmode`` (PostgreSQL manual, 34.19)."""


@dataclass(frozen=True, slots=True)
class TLSParameters:
    """What a URL says about TLS.

    Args:
        mode: one of ``MODES``.
        root: a file with the trusted certificate authorities; ``"system"`` for those of the
            system, with the check of ``verify-full``. Any file means at least ``verify-ca``.
        certificate: a file with the client's certificate.
        key: a file with its key; without it, the key is in the file of the certificate.
        password: of the key.
    """

    mode: str = "prefer"
    root: str | None = None
    certificate: str | None = None
    key: str | None = None
    password: str | None = field(default=None, repr=False)


def attempts(parameters: TLSParameters) -> tuple[ssl.SSLContext | None, ...]:
    """How to connect: one or two attempts in this order, each with a context, or without TLS.

    Raises:
        ValueError: the mode is unknown, or a file cannot be used; one sentence, without the
            password.
    """
    if parameters.mode not in MODES:
        raise ValueError(
            f"Its sslmode is {parameters.mode!r}; it must be one of {', '.join(MODES)}."
        )
    if parameters.mode == "disable":
        return (None,)
    context = _context(parameters)
    if context.verify_mode is ssl.CERT_REQUIRED or parameters.mode == "require":
        return (context,)
    return (None, context) if parameters.mode == "allow" else (context, None)


def client_context() -> ssl.SSLContext:
    """A client's context that trusts nobody yet, and that no variable of a shell changes."""
    # Not ssl.create_default_context(), which writes session keys to the file SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _context(parameters: TLSParameters) -> ssl.SSLContext:
    context = client_context()
    if ssl.HAS_ALPN:
        context.set_alpn_protocols(["postgresql"])
    context.check_hostname = parameters.mode == "verify-full" or parameters.root == "system"
    if parameters.root and parameters.root != "system":
        _load_authorities(context, parameters.root)
    elif parameters.root or parameters.mode.startswith("verify-"):
        # libpq requires a file for these modes; providers mean the authorities of the system.
        context.load_default_certs()
    else:
        context.verify_mode = ssl.CERT_NONE
    if parameters.certificate:
        _load_client_certificate(context, parameters.certificate, parameters)
    elif parameters.key or parameters.password:
        raise ValueError("It has an sslkey or sslpassword, but no sslcert.")
    return context


def _load_authorities(context: ssl.SSLContext, root: str) -> None:
    _require_readable("sslrootcert", root)
    try:
        context.load_verify_locations(cafile=root)
    except ssl.SSLError:
        raise ValueError(f"Its sslrootcert {root!r} holds no certificate in PEM form.") from None


def _load_client_certificate(
    context: ssl.SSLContext, certificate: str, parameters: TLSParameters
) -> None:
    key = parameters.key or certificate
    _require_readable("sslcert", certificate)
    _require_readable("sslkey", key)
    is_encrypted = False

    def password() -> str:
        # Always given: without it OpenSSL would ask at the terminal.
        nonlocal is_encrypted
        is_encrypted = True
        return parameters.password or ""

    try:
        context.load_cert_chain(certificate, key, password)
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            problem = f"Its sslkey {key!r} is not the key of its sslcert {certificate!r}."
        elif is_encrypted and not parameters.password:
            problem = f"Its sslkey {key!r} is encrypted: it needs an sslpassword."
        elif is_encrypted:
            problem = f"Its sslpassword does not open its sslkey {key!r}."
        else:
            problem = (
                f"Its sslcert {certificate!r} and sslkey {key!r} are not a certificate and its key"
                " in PEM form."
            )
        raise ValueError(problem) from None


def _require_readable(name: str, path: str) -> None:
    # load_cert_chain() does not say which of the two files it means.
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ValueError(f"Its {name} {path!r} cannot be read: {error.strerror}.") from None
