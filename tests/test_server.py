"""The server over a socket, as uvicorn starts it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from tests.conftest import HASH_SECRET, ROOT
from tests.control import GIVE_UP


@pytest.fixture(scope="module")
def port(database_url: str) -> Iterator[int]:
    """The port of a server that runs for the tests of this module."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = int(free.getsockname()[1])
    environment = {
        "PATH": os.environ["PATH"],
        "ENVIRONMENT": "testing",
        "DATABASE_URL": database_url,
        "SESSION_HASH_SECRET": HASH_SECRET,
        "RATE_LIMIT_ENABLED": "false",
    }
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "api.app:create_app",
        "--port",
        str(port),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as server:
        try:
            _wait_until_it_answers(server, port)
            yield port
        finally:
            server.terminate()
        _, log = server.communicate(timeout=GIVE_UP)
    assert server.returncode in (0, -15), log.decode()
    assert b"Traceback" not in log, log.decode()


def _wait_until_it_answers(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + GIVE_UP
    while time.monotonic() < deadline:
        assert server.poll() is None, server.communicate()[1].decode()
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the server did not start")


@pytest.fixture
def token(ada_client: httpx.AsyncClient) -> str:
    """Ada's."""
    return ada_client.headers["Authorization"]


@contextmanager
def connected(port: int) -> Iterator[HTTPConnection]:
    """One connection, kept alive as long as the server keeps it."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.connect()
        yield connection


def read_response(connection: HTTPConnection) -> tuple[HTTPResponse, Any]:
    """The next response on the connection, and its body as JSON."""
    response = connection.getresponse()
    content = response.read()
    return response, json.loads(content) if content else None


def raw(connection: HTTPConnection, data: bytes) -> tuple[HTTPResponse, Any]:
    """Send bytes as they are, and read one response."""
    connection.sock.sendall(data)
    response = HTTPResponse(connection.sock)
    response.begin()
    content = response.read()
    return response, json.loads(content) if content else None


def test_every_operation_works_on_one_connection(port: int, token: str) -> None:
    headers = {"Authorization": token, "Content-Type": "application/json"}
    with connected(port) as connection:
        local = connection.sock.getsockname()

        connection.request("POST", "/tasks/", json.dumps({"title": "wäter 🪴"}), headers)
        created, task = read_response(connection)
        location = urljoin("/tasks/", created.headers["Location"])
        connection.request("GET", location, headers=headers)
        read, same = read_response(connection)
        connection.request("HEAD", "/tasks", headers=headers)
        head, nothing = read_response(connection)
        connection.request("DELETE", location, headers=headers)
        deleted, _ = read_response(connection)

        assert connection.sock.getsockname() == local
    assert [each.status for each in (created, read, head, deleted)] == [201, 200, 200, 204]
    assert (task["title"], same, nothing) == ("wäter 🪴", task, None)
    assert int(head.headers["Content-Length"]) > 0


def test_a_connection_can_be_used_after_a_401(port: int, token: str) -> None:
    with connected(port) as connection:
        connection.request("POST", "/tasks", b"x" * 100_000, {"Content-Type": "application/json"})
        refused, problem = read_response(connection)
        connection.request("GET", "/tasks", headers={"Authorization": token})
        served, tasks = read_response(connection)

    assert (refused.status, problem["type"]) == (401, "authentication_error")
    assert (served.status, tasks) == (200, [])


HEAD = (
    b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\n"
    b"Content-Type: application/json\r\n"
)


def test_an_oversized_body_is_refused_by_its_length_and_the_connection_closed(
    port: int, token: str
) -> None:
    smuggled = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(port) as connection:
        announced = HEAD % token.encode() + b"Content-Length: 10000000\r\n\r\n"
        response, problem = raw(connection, announced + smuggled)
        rest = connection.sock.recv(1)

    assert (response.status, problem["type"]) == (413, "payload_too_large")
    assert response.headers["Connection"] == "close"
    assert rest == b""


def test_an_oversized_chunked_body_is_refused_before_it_has_ended(port: int, token: str) -> None:
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    with connected(port) as connection:
        head = HEAD % token.encode() + b"Transfer-Encoding: chunked\r\n\r\n"
        response, problem = raw(connection, head + chunk * 5)

    assert (response.status, problem["type"]) == (413, "payload_too_large")
    assert response.headers["Connection"] == "close"


def test_a_chunked_body_is_read(port: int, token: str) -> None:
    chunks = b'a\r\n{"title": \r\n' + b'8\r\n"water"}\r\n' + b"0\r\n\r\n"
    with connected(port) as connection:
        head = HEAD % token.encode() + b"Transfer-Encoding: chunked\r\n\r\n"
        response, task = raw(connection, head + chunks)

    assert (response.status, task["title"]) == (201, "water")


def test_pipelined_requests_are_answered_in_order(port: int, token: str) -> None:
    body = b'{"title": "water"}'
    post = HEAD % token.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    get = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(port) as connection:
        connection.sock.sendall(post + get + get)
        responses = b""
        while responses.count(b"HTTP/1.1 ") < 3 or not responses.endswith(b"}"):
            responses += connection.sock.recv(65536)

    assert re.findall(rb"HTTP/1.1 (\d+)", responses) == [b"201", b"200", b"200"]


def test_a_client_that_expects_100_continue_is_refused_before_it_sends(port: int) -> None:
    with connected(port) as connection:
        head = HEAD % b"Bearer x" + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
        response, problem = raw(connection, head)

    assert (response.status, problem["type"]) == (401, "authentication_error")


@pytest.mark.parametrize(
    "request_line",
    [b"GET /tasks/%FF HTTP/1.1", b"GET /tasks?limit=%00 HTTP/1.1", b"GET /tasks/%00 HTTP/1.1",
     b"GET /tasks?" + b"p=1&" * 15_000 + b" HTTP/1.1",
     b"GET /tasks/" + b"a" * 60_000 + b" HTTP/1.1"],
    ids=lambda line: line[:24].decode(),
)  # fmt: skip
def test_odd_request_lines_are_answered_from_the_catalogue(
    request_line: bytes, port: int, token: str
) -> None:
    with connected(port) as connection:
        lines = request_line + b"\r\nHost: localhost\r\nAuthorization: " + token.encode()
        response, problem = raw(connection, lines + b"\r\n\r\n")

    assert (response.status, problem["type"]) == (400, "validation_error")


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 99])
def test_what_is_not_http_is_refused_and_serving_goes_on(garbage: bytes, port: int) -> None:
    with connected(port) as connection:
        connection.sock.sendall(garbage)
        refusal = connection.sock.recv(65536)
    with connected(port) as connection:
        connection.request("GET", "/health")
        served, _ = read_response(connection)

    assert refusal.startswith(b"HTTP/1.1 400")
    assert served.status == 200
