"""A token's forms, its hash and its signature. Vectors are from Node's crypto and openssl."""

from __future__ import annotations

import pytest

from persistence.sessions.tokens import hash_token, is_signature_right, parse_token, sign
from tests.sessions.layouts import NEW, OLD, SIGNED_NEW, SIGNED_OLD, TOKEN

SECRET = "a secret of the tests, shared with nobody"
"""Of the vectors: it stays, whatever the secret of the other tests is."""


@pytest.mark.parametrize(
    ("secret", "token", "digest"),
    [
        (SECRET, "abc", "e0f5336afc17110c1460705b8c0e1ebb778bf119516cf6421750839c97205fd9"),
        (SECRET, "grün", "ce0d8e194dc57d9bb049fefbb379ba51a803456d78991525a6e1d94d2d2e0810"),
        (
            SECRET,
            "Zq3vJ8Wm0rYtB5nKx7LdPf2HcUe9GsAa",
            "6eaf2f99ff85ba08ff57b8683a13adf2ed91dc3e6407015a6cc89c5f1ba70bbf",
        ),
        (
            "another secret of 32 characters!",
            "abc",
            "e60aa244fec965e3b22e3ec7741ac62a0e50bc063ac370ad71af1fe2a7cf2b3d",
        ),
    ],
)
def test_a_token_is_hashed_as_the_auth_server_does(secret: str, token: str, digest: str) -> None:
    assert hash_token(secret.encode(), token.encode()) == digest


@pytest.mark.parametrize(
    ("secret", "token", "signature"),
    [
        (NEW, TOKEN, SIGNED_NEW),
        (OLD, TOKEN, SIGNED_OLD),
        (NEW, "a.b.c", "N1uSLKRmADIM3tlcMLyxKGyCshj95LM15HzH7f2MPRQ="),
        (OLD, "a.b.c", "R2198Qvzrl1UicMwNtxUVxNl5zMxVtTRTSkxzxWzokU="),
        (NEW, "grün", "ZjhaQY/j0Nu6rD+Wj++PRMfZXzyEYF8TWSGYSF/pGTo="),
        (NEW, "abc", "9hYU1iKFxNVU3gj0lfIlpAsNvTIa3OE5lhvz8pYrdaA="),
    ],
)
def test_a_token_is_signed_as_better_auth_does(secret: str, token: str, signature: str) -> None:
    assert sign(secret.encode(), token.encode()).decode() == signature


RAW = TOKEN
IN_THE_CLEAR = f"{TOKEN}.{SIGNED_NEW}"
IN_A_COOKIE = f"{TOKEN}.U8qZxQAXIhgmmA%2BP5hJzvWUQj4JS%2BAhp%2FuJ2DzUvMH0%3D"
LOWER_CASE_ESCAPES = IN_A_COOKIE.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d")
HALF_ESCAPED = f"{TOKEN}.{SIGNED_NEW[:-1]}%3D"


@pytest.mark.parametrize(
    ("presented", "raw", "signature"),
    [
        (RAW, TOKEN, ""),
        (IN_THE_CLEAR, TOKEN, SIGNED_NEW),
        (IN_A_COOKIE, TOKEN, SIGNED_NEW),
        (LOWER_CASE_ESCAPES, TOKEN, SIGNED_NEW),
        (HALF_ESCAPED, TOKEN, SIGNED_NEW),
        # Dots belong to the token, but for the last.
        ("a.b.c", "a.b.c", ""),
        (f"a.b.c.{SIGNED_NEW}", "a.b.c", SIGNED_NEW),
        (f"{TOKEN}.", f"{TOKEN}.", ""),
        (f".{SIGNED_NEW}", f".{SIGNED_NEW}", ""),
        # 44 characters of padded base64, and nothing else, are a signature.
        (f"{TOKEN}.{SIGNED_NEW[:-1]}", f"{TOKEN}.{SIGNED_NEW[:-1]}", ""),
        (f"{TOKEN}.{SIGNED_NEW}=", f"{TOKEN}.{SIGNED_NEW}=", ""),
        (f"{TOKEN}.{'A' * 44}", f"{TOKEN}.{'A' * 44}", ""),
        (f"{TOKEN}.{'A' * 42}==", TOKEN, f"{'A' * 42}=="),
        (f"{TOKEN}.{'A' * 40}=AA=", f"{TOKEN}.{'A' * 40}=AA=", ""),
        (f"{TOKEN}.{'-_' * 21}A=", f"{TOKEN}.{'-_' * 21}A=", ""),
        (f"{TOKEN}.{'A' * 42}!=", f"{TOKEN}.{'A' * 42}!=", ""),
        (f"{TOKEN}.{'A' * 41}ü=", f"{TOKEN}.{'A' * 41}ü=", ""),
        # A plus is base64, never a space.
        (IN_A_COOKIE.replace("%2B", "+"), TOKEN, SIGNED_NEW),
        (IN_A_COOKIE.replace("%2B", "%20"), IN_A_COOKIE.replace("%2B", "%20"), ""),
        # As a whole it was escaped, or it was not.
        ("gr%C3%BCn.ZjhaQY%2Fj0Nu6rD%2BWj%2B%2BPRMfZXzyEYF8TWSGYSF%2FpGTo%3D", "grün",
         "ZjhaQY/j0Nu6rD+Wj++PRMfZXzyEYF8TWSGYSF/pGTo="),
        ("gr%C3%BCn", "gr%C3%BCn", ""),
        ("", "", ""),
        (".", ".", ""),
        ("%", "%", ""),
    ],
)  # fmt: skip
def test_a_token_is_separated_from_its_signature(presented: str, raw: str, signature: str) -> None:
    token = parse_token(presented.encode())

    assert (token.raw.decode(), token.signature.decode()) == (raw, signature)


@pytest.mark.parametrize(
    ("presented", "signing", "right"),
    [
        (IN_THE_CLEAR, [NEW], True),
        (IN_A_COOKIE, [NEW], True),
        (IN_THE_CLEAR, [OLD, NEW], True),
        (f"{TOKEN}.{SIGNED_OLD}", [NEW, OLD], True),
        (f"{TOKEN}.{SIGNED_OLD}", [NEW], False),
        (f"x{IN_THE_CLEAR}", [NEW], False),
        (f"{TOKEN}.{'A' * 43}=", [NEW], False),
        (RAW, [NEW], True),
        (f"{TOKEN}.{SIGNED_OLD}", [], True),
    ],
)
def test_a_signature_is_right_under_one_of_the_secrets(
    presented: str, signing: list[str], right: bool
) -> None:
    token = parse_token(presented.encode())

    assert is_signature_right(token, [secret.encode() for secret in signing]) is right
