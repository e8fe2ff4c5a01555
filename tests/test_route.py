"""Our route class, on a resource that is not tasks."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI, Path, Query
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from persistence.errors import FieldError, InvalidInput, NotFound
from rest.route import AuthenticatedRoute, Db, PathParser, Reader, Writer, media_types


class Colour(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid")

    red: int


class Shade(BaseModel):
    """The query parameters of a request."""

    dark: str = "no"


def parse_letter(text: str, name: str) -> str:
    """Read one letter; the letter z does not exist."""
    if len(text) != 1:
        raise InvalidInput([FieldError(name, "Should be a letter", "letter_invalid", text)])
    if text == "z":
        raise NotFound("Letter", text)
    return text


Letter = Annotated[str, Path(alias="letter"), PathParser(parse_letter)]


async def paint(
    key: Letter,
    colour: Annotated[Colour, Body()],
    shade: Annotated[Shade, Query()],
    viewer: Writer,
    db: Db,
) -> Response:
    """Return the arguments."""
    return JSONResponse([key, colour.red, shade.dark, viewer.user_id])


@pytest.fixture
def colours(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a second resource, while the test runs."""
    route = AuthenticatedRoute("/colours/{letter}", paint, methods=["PATCH"])
    monkeypatch.setattr(app.router, "routes", [route, *app.router.routes])
    return "/colours"


async def test_the_endpoint_gets_every_argument(
    ada_client: httpx.AsyncClient, colours: str
) -> None:
    response = await ada_client.patch(f"{colours}/a?dark=yes", json={"red": 7})

    assert response.json()[:3] == ["a", 7, "yes"]
    assert (
        response.json()[3]
        == (await ada_client.post("/tasks", json={"title": "x"})).json()["user_id"]
    )


@pytest.mark.parametrize(
    ("path", "content", "media_type", "status"),
    [
        ("/zz?light=1", b"{", "text/plain", 415),
        ("/zz?light=1", b"{" * 70_000, "application/json", 413),
        ("/zz?light=1", b"{", "application/json", 400),
        ("/z?light=1", b'{"red": 1}', "application/json", 400),
        ("/zz", b'{"red": 1}', "application/json", 400),
        ("/z", b'{"red": 1}', "application/merge-patch+json", 404),
        ("/a", b'{"red": 1}', "application/merge-patch+json", 200),
    ],
)
async def test_inputs_are_read_in_the_order_of_the_contract(
    path: str,
    content: bytes,
    media_type: str,
    status: int,
    ada_client: httpx.AsyncClient,
    colours: str,
) -> None:
    headers = {"Content-Type": media_type}

    response = await ada_client.patch(colours + path, content=content, headers=headers)

    assert response.status_code == status


async def test_authentication_comes_first(client: httpx.AsyncClient, colours: str) -> None:
    response = await client.patch(f"{colours}/zz?light=1", content=b"{")

    assert response.status_code == 401


@pytest.mark.parametrize(
    ("method", "types"),
    [
        ("POST", ("application/json",)),
        ("PUT", ("application/json", "application/merge-patch+json")),
        ("PATCH", ("application/json", "application/merge-patch+json")),
    ],
)
def test_put_and_patch_also_read_merge_patches(method: str, types: tuple[str, ...]) -> None:
    assert media_types(method) == types


async def without_viewer(db: Db) -> Response:
    """Lacks a viewer."""
    return Response()


async def without_annotation(viewer: Reader, colour: Any) -> Response:
    """Lacks an annotation."""
    return Response()


async def without_parser(viewer: Reader, letter: Annotated[str, Path()]) -> Response:
    """Lacks a parser."""
    return Response()


@pytest.mark.parametrize(
    ("path", "endpoint", "message"),
    [
        ("/", without_viewer, "without_viewer: it takes neither a Reader nor a Writer"),
        ("/", without_annotation, "without_annotation: the annotation of colour is not supported"),
        ("/{letter}", without_parser, "without_parser: the annotation of letter is not supported"),
    ],
)
def test_an_incomplete_endpoint_cannot_be_declared(path: str, endpoint: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        AuthenticatedRoute(path, endpoint, methods=["GET"])
