"""What a `.env` file may hold, and what is an error, with the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.dotenv import read_dotenv
from api.settings import SettingsError, load

GOOD = "DATABASE_URL=postgresql://127.0.0.1/x\nSESSION_STORE=better-auth\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "SESSION_STORE", "SESSION_HASH_SECRET", "LOG_LEVEL", "HOST"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("lines", "number", "problem"),
    [
        ("LOG_LEVEL: DEBUG", 3, "It is not NAME=value, or a quotation mark does not end."),
        ("\n# a comment\n\nlog level = DEBUG", 6, "It is not NAME=value"),
        ("LOG_LEVEL='DEBUG", 3, "It is not NAME=value, or a quotation mark does not end."),
        ('LOG_LEVEL="DEBUG" or INFO', 3, "It is not NAME=value"),
        ("=DEBUG", 3, "It is not NAME=value"),
        ("LOG_LEVEL", 3, "It is not NAME=value"),
        ("LOG_LEVEL=a\0b", 3, "It holds a null character."),
        ("\r\nHOST=${BIND}", 4, "HOST holds ${…}, which is not filled in. Write its value, or put"),
        ('HOST="${BIND:-::}"', 3, "HOST holds ${…}"),
        ("export HOST=a${BIND}", 3, "HOST holds ${…}"),
    ],
)
def test_a_line_that_cannot_be_read_is_an_error(lines: str, number: int, problem: str) -> None:
    Path(".env").write_bytes(f"{GOOD}{lines}\nPORT=1\n".encode())

    for read in (load, read_dotenv):
        with pytest.raises(SettingsError) as caught:
            read()
        assert len(caught.value.problems) == 1
        assert caught.value.problems[0].startswith(f".env, line {number}: {problem}")


def test_every_line_that_cannot_be_read_is_named() -> None:
    Path(".env").write_text("HOST ::1\nPORT=1\nHOST=${A}\n")

    with pytest.raises(SettingsError) as caught:
        load()

    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        ".env, line 1",
        ".env, line 3",
    ]


def test_what_can_be_read_is_kept_as_it_is() -> None:
    Path(".env").write_text(
        "\ufeff" + GOOD + "export DEMO_TOKEN='a${b}$c' # ours\n"
        "OTHERS=${SOMEBODY}\nBARE\nHOST=$HOME#1\nCORS_ORIGINS=\n"
    )

    settings = load()

    assert settings.database_url is not None
    assert settings.demo_token is not None
    assert settings.demo_token.get_secret_value() == "a${b}$c"
    assert settings.host == "$HOME#1"
    assert settings.cors_origins is None
    assert read_dotenv()["OTHERS"] == "${SOMEBODY}"
