"""What the text of a setting may be: lists, limits, hosts, origins and secrets; and its masks."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Annotated, Final
from urllib.parse import urlsplit

from limits import parse_many as parse_limits
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


CommaSeparated = Annotated[list[str], NoDecode, BeforeValidator(_comma_separated)]
"""A list, written `a, b`."""


def _rate_limit(text: str) -> str:
    try:
        limits = parse_limits(text)
    except ValueError:
        raise ValueError("It is not a limit like 100/minute.") from None
    if limits[0].amount < 1 or _NO_TIME.search(text):
        raise ValueError("It allows nothing, or in no time; it must be like 100/minute.")
    if len(limits) > 1:
        raise ValueError(f"It holds {len(limits)} limits; it must be one, like 100/minute.")
    return text


def collector(value: SecretStr) -> SecretStr:
    """The base URL of an OpenTelemetry collector. The extra that sends to it has to be installed.

    Raises:
        ValueError: it is not a URL, or the extra is not installed.
    """
    url = urlsplit(value.get_secret_value())
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("It is not a URL like http://localhost:4318.")
    try:
        is_installed = find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        is_installed = False
    if not is_installed:
        raise ValueError("It needs the extra `otel`: pip install 'twofold[otel]'.")
    return value


def _commit(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{7,64}", text):
        raise ValueError("It is not a Git commit: 7 to 64 hexadecimal digits.")
    return text


Commit = Annotated[str, AfterValidator(_commit)]
"""A Git commit."""

# `limits` reads 100/0 minute as 100/minute.
_NO_TIME: Final = re.compile(r"(/|per)\s*0")

RateLimit = Annotated[str, AfterValidator(_rate_limit)]
"""An amount in a time, written `100/minute`."""


def allowed_host(text: str) -> str:
    """A host to answer for, in lower case: a name, ``*.name``, or an address in brackets.

    Raises:
        ValueError: it is none; the message is a sentence.
    """
    if not _ALLOWED_HOST.fullmatch(text):
        raise ValueError(f"{text!r} is not a host: a name, *.name, or an address, without a port.")
    return text.lower()


_ALLOWED_HOST: Final = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]")


def origin_problem(text: str, *, production: bool) -> str | None:
    """A sentence about what is wrong with an origin of browsers or apps, or ``None``."""
    match = _ORIGIN.fullmatch(text.lower())
    if not match:
        return f"{text!r} is not an origin: scheme://host, with a port or without, and no path."
    if production and match["scheme"] == "http":
        return f"{text!r} must not be http:// in production."
    return None


# Apps send origins with schemes of their own: capacitor://localhost, chrome-extension://….
_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?"
)


def normalized_origin(origin: str) -> str:
    """An origin as browsers send it: in lower case, without the default port of its scheme."""
    scheme, _, host = origin.lower().partition("://")
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ''))}"


_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


MINIMUM_SECRET_LENGTH: Final = 32

MAX_SECRETS: Final = 5
"""The most secrets of each kind that are in use at the same time. Each costs a hash a request."""


def signing_secrets(text: str) -> list[bytes]:
    """The secrets in ``a,b`` or in better-auth's own form ``2:new,1:old``, newest first.

    Raises:
        ValueError: it holds none, an empty one or too many; the message is a sentence.
    """
    secrets = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        version, colon, rest = part.partition(":")
        secret = rest.strip() if colon and version.isdecimal() else part
        if not secret:
            raise ValueError(f"The secret of version {version} is empty.")
        secrets.append(secret.encode())
    if not secrets:
        raise ValueError("It holds no secret.")
    if len(secrets) > MAX_SECRETS:
        raise ValueError(f"It holds {len(secrets)} secrets; at most {MAX_SECRETS} may be in use.")
    return secrets


def hash_secrets(text: str) -> list[bytes]:
    """The secrets in ``new,old``, newest first.

    Until lists were read, a text with commas was one secret, and its sessions stay valid: the whole
    text is the last secret of a list. It is the only one if no part is as long as a secret.

    Raises:
        ValueError: one is weak, or there are too many; the message is a sentence.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1 or max(map(len, parts)) < MINIMUM_SECRET_LENGTH:
        if len(text) < MINIMUM_SECRET_LENGTH:
            raise ValueError(f"It is weak: it must be at least {MINIMUM_SECRET_LENGTH} characters.")
        return [text.encode()]
    for number, part in enumerate(parts, 1):
        if len(part) < MINIMUM_SECRET_LENGTH:
            raise ValueError(
                f"Secret {number} of {len(parts)} is {'weak' if part else 'empty'}: between commas,"
                f" each must be at least {MINIMUM_SECRET_LENGTH} characters."
            )
    if len(parts) > MAX_SECRETS:
        raise ValueError(f"It holds {len(parts)} secrets; at most {MAX_SECRETS} may be in use.")
    return [part.encode() for part in (*parts, text)]


def mask(value: object) -> str:
    """A setting as text; of a secret only asterisks, or the host and the path of a URL."""
    if isinstance(value, SecretStr):
        # The user, the password and the query of a URL may hold secrets.
        url = _SECRET_URL.fullmatch(value.get_secret_value())
        return f"{url['scheme']}********@{url['place']}" if url else "********"
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return "" if value is None else str(value)


_SECRET_URL: Final = re.compile(
    r"(?P<scheme>[\w+]+://)[^@?#]+@(?P<place>[\w.-]+(:\d+)?(/[\w.-]*)?)(\?.*)?"
)


TRASH_DAYS: Final = 30
"""How many days a deleted task stays in the trash, unless it is set."""

TrashDays = Annotated[int, Field(ge=1, le=3650)]
