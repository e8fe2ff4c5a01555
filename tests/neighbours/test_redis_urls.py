"""`REDIS_URL` as providers and people write it: it leads to Redis, or one sentence says why not."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.rate_limit.redis_connection import RedisConnection, UnusableRedis
from persistence.embedded.valkey import Valkey
from persistence.embedded.valkey import valkey as embedded_valkey
from persistence.redis_url import RedisServer, parse_redis_url
from tests.conftest import settings_of_tests
from tests.neighbours.tls_servers import Certificates
from tests.neighbours.valkeys import behind_tls, valkey_at_socket

SECRET = "hunter2"

READABLE = {
    "redis://localhost": RedisServer("localhost"),
    "redis://cache.example:6380/3": RedisServer("cache.example", 6380, database=3),
    "redis://:hunter2@h:6379/0/": RedisServer("h", password="hunter2"),
    "redis://default:hunter2@h": RedisServer("h", username="default", password="hunter2"),
    # A generated password, as it is: the last @ ends it.
    "redis://:hunter2#Zk@h": RedisServer("h", password="hunter2#Zk"),
    "redis://:a/b?c@d#e%zz@h:1": RedisServer("h", 1, password="a/b?c@d#e%zz"),
    "redis://:hun%40ter%232@h": RedisServer("h", password="hun@ter#2"),
    "redis://[::1]:6380": RedisServer("::1", 6380),
    "redis://h?db=2": RedisServer("h", database=2),
    "redis://h/?protocol=3&family=0": RedisServer("h"),
    "redis://h?username=ada&password=hunter2": RedisServer("h", username="ada", password="hunter2"),
    "valkey://h": RedisServer("h"),
    " 'redis://h' ": RedisServer("h"),
    "unix:///run/redis.sock": RedisServer(path="/run/redis.sock"),
    "unix://ada:hunter2@/run/redis.sock?db=1": RedisServer(
        path="/run/redis.sock", username="ada", password="hunter2", database=1
    ),
}


@pytest.mark.parametrize("url", READABLE)
def test_a_url_is_read_as_its_provider_meant_it(url: str) -> None:
    assert parse_redis_url(url) == READABLE[url]


UNUSABLE = {
    "": "It must begin with",
    "hunter2@h": "It must begin with",
    "http://:hunter2@h": "It must begin with",
    "redis:/:hunter2@h": "It must begin with",
    "redis-sentinel://:hunter2@h": "Sentinel",
    "redis+cluster://:hunter2@h": "cluster",
    "redis://:hunter2@": "It names no host",
    "redis://:hunter2@a,b,c": "more than one host",
    "redis://:hunter2@h:hunter2": "Its port is not a number from 1 to 65535",
    "redis://:hunter2@h:0": "Its port is not",
    "redis://:hunter2@h:65536": "Its port is not",
    "redis://:hunter2@h/hunter2": "Its database is not a number",
    "redis://:hunter2@h/-1": "Its database is not a number",
    "redis://:hunter2@h/1?db=2": "It names two databases",
    "redis://:hunter2@h?hunter2=1": "a parameter that is not known",
    "redis://:hunter2@h?ssl_hunter2=1": "a TLS option that is not known",
    "redis://:hunter2@h?db=1&db=1": "Its parameter db is repeated",
    "redis://:hunter2@h?ssl_cert_reqs=none": "which need rediss://",
    "rediss://:hunter2@h?ssl_cert_reqs=hunter2": "Its ssl_cert_reqs is not",
    "rediss://:hunter2@h?ssl_check_hostname=hunter2": "Its ssl_check_hostname is not",
    "rediss://:hunter2@h?ssl_ca_certs=/hunter2": "Its ssl_ca_certs is not a file",
    "rediss://:hunter2@h?ssl_keyfile=/hunter2": "needs an ssl_certfile",
    "rediss://:hunter2@h?ssl_certfile=/hunter2": "Its ssl_certfile and ssl_keyfile",
    "redis://hunter2@h": "a name without a password",
    "redis://:hunter2@h#hunter2": "It has a # after its host",
    "redis://:hunter2@a b": "It is not of the form",
    "redis://:hunter2%FF@h": "not UTF-8",
    "unix://:hunter2@run": "It names no socket",
}


@pytest.mark.parametrize("url", UNUSABLE)
def test_what_can_never_work_is_one_sentence_without_its_secret(url: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        settings_of_tests(database_url="postgresql://h/d", redis_url=url)

    [error] = refusal.value.errors(include_url=False, include_input=False)
    assert UNUSABLE[url] in error["msg"]
    assert SECRET not in error["msg"]
    assert ". " not in error["msg"]
    assert error["msg"].endswith(".")


@pytest.mark.parametrize("limit", ["100/minute;1000/hour", "1/second, 5/minute"])
def test_several_limits_in_one_string_are_refused(limit: str) -> None:
    with pytest.raises(ValidationError, match="It holds 2 limits"):
        settings_of_tests(database_url="postgresql://h/d", rate_limit_read=limit)


@pytest.mark.parametrize("limit", ["100/0 minute", "0/minute", "5 per 0 hour"])
def test_a_limit_that_allows_nothing_is_rejected(limit: str) -> None:
    with pytest.raises(ValidationError, match="It allows nothing"):
        settings_of_tests(database_url="postgresql://h/d", rate_limit_read=limit)


# --- TLS and sockets, on real connections -----------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with embedded_valkey() as server:
        yield server


async def ping(url: str) -> bytes:
    connection = await RedisConnection.open(parse_redis_url(url), 5.0)
    try:
        reply: bytes = await connection.call("PING")
    finally:
        connection.abort()
    return reply


async def test_a_socket_is_connected_to(tmp_path: Path) -> None:
    with valkey_at_socket(tmp_path / "valkey.sock") as url:
        assert await ping(url) == b"PONG"


@pytest.mark.parametrize(
    ("options", "host", "failure"),
    [
        ("ssl_ca_certs={authority}", "localhost", None),
        ("ssl_ca_certs={authority}&ssl_check_hostname=false", "127.0.0.1", None),
        ("ssl_cert_reqs=none", "127.0.0.1", None),
        ("ssl_ca_certs={authority}&ssl_certfile={client}&ssl_keyfile={key}", "localhost", None),
        ("", "localhost", ssl.SSLCertVerificationError),
        ("ssl_ca_certs={authority}", "127.0.0.1", ssl.SSLCertVerificationError),
    ],
)
async def test_tls_checks_what_the_url_says(
    options: str,
    host: str,
    failure: type[Exception] | None,
    valkey: Valkey,
    certificates: Certificates,
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates["server.pem"], certificates["server.key"])
    if "certfile" in options:
        context.load_verify_locations(certificates["authority.pem"])
        context.verify_mode = ssl.CERT_REQUIRED
    options = options.format(
        authority=certificates["authority.pem"],
        client=certificates["client.pem"],
        key=certificates["client.key"],
    )
    async with behind_tls(valkey.port, context) as port:
        url = f"rediss://:{valkey.password}@{host}:{port}?{options}"
        if failure:
            with pytest.raises(failure):
                await ping(url)
        else:
            assert await ping(url) == b"PONG"


async def test_a_database_that_does_not_exist_never_passes_for_an_outage(valkey: Valkey) -> None:
    with pytest.raises(UnusableRedis, match="has no database 99"):
        await ping(valkey.url.removesuffix("/0") + "/99")
