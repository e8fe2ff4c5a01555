"""Runs one of the Node programs of better-auth, and calls it as a frontend does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tests.control import GIVE_UP

FOLDER: Final = Path(__file__).parent
PASSWORD: Final = "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The credentials of a frontend after it signed in.

    Attributes:
        token: the raw session token, from the body of the response.
        header: ``set-auth-token``, from the plugin ``bearer``.
        cookie: the value of the session cookie, percent-encoded as it was sent.
        cached: the value of the cookie ``session_data``, which the auth server trusts for a while.
    """

    user_id: str
    email: str
    token: str = field(repr=False)
    header: str = field(repr=False)
    cookie: str = field(repr=False)
    cached: str = field(repr=False)


class AuthServer:
    """A running better-auth server."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def visit(self) -> SignedIn:
        """Sign in anonymously, where the server allows that."""
        return await self._signed_in("/sign-in/anonymous")

    async def sign_up(self, name: str, token: str | None = None) -> SignedIn:
        """Create a user, who is signed in at once; a visitor's token tells who it was before."""
        account = {"name": name, "email": f"{name}@example.com", "password": PASSWORD}
        return await self._signed_in("/sign-up/email", token, **account)

    async def sign_in(self, email: str, token: str | None = None) -> SignedIn:
        """Sign a user in once more, as on another device, or a visitor who has an account."""
        account = {"email": email, "password": PASSWORD}
        return await self._signed_in("/sign-in/email", token, **account)

    async def post(self, path: str, token: str | None = None, /, **body: Any) -> httpx.Response:
        """Post to an endpoint of better-auth. It must succeed."""
        return await self._call("POST", path, token, json=body)

    async def get(self, path: str, token: str | None = None) -> Any:
        """Get the JSON of an endpoint of better-auth."""
        return (await self._call("GET", path, token)).json()

    async def _signed_in(self, path: str, token: str | None = None, /, **body: str) -> SignedIn:
        response = await self.post(path, token, **body)
        document = response.json()
        cookies = dict(
            cookie.partition(";")[0].split("=", 1)
            for cookie in response.headers.get_list("set-cookie")
        )
        return SignedIn(
            user_id=document["user"]["id"],
            email=document["user"]["email"],
            token=document["token"],
            header=response.headers["set-auth-token"],
            cookie=cookies["better-auth.session_token"],
            cached=cookies["better-auth.session_data"],
        )

    async def _call(
        self, method: str, path: str, token: str | None, **content: Any
    ) -> httpx.Response:
        # Without cookies: only the bearer token identifies the user.
        self._client.cookies.clear()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = await self._client.request(method, path, headers=headers, **content)
        assert response.status_code == 200, response.text
        return response


@asynccontextmanager
async def running(program: str, **environment: str) -> AsyncIterator[AuthServer]:
    """Run a program, with these variables added to the environment, during the block."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(FOLDER / f"{program}.js"),
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = await asyncio.wait_for(process.stdout.readline(), GIVE_UP)
        assert address, f"{program}.js ended with {await process.wait()}"
        base = f"{address.decode().strip()}/api/auth"
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            yield AuthServer(client)
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), GIVE_UP)
