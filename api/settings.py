"""The settings: their names, types and defaults, and how they are validated."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.dotenv_file import DotenvError, environment_variables, read_lines
from api.setting_values import (
    MINIMUM_SECRET_LENGTH,
    TRASH_DAYS,
    CommaSeparated,
    Commit,
    RateLimit,
    TrashDays,
    allowed_host,
    collector,
    hash_secrets,
    mask,
    normalized_origin,
    origin_problem,
    signing_secrets,
)
from persistence.pool import PoolSettings
from persistence.redis_url import parse_redis_url
from persistence.schema_names import require_schema_name
from persistence.sessions.lookups import MAX_SECONDS_LEFT
from persistence.sessions.store import SessionStore
from persistence.task_inputs import MAX_PAGE
from persistence.urls import parse_database_url

DOTENV_FILE: Final = ".env"


class Environment(StrEnum):
    """Where this instance runs."""

    DEVELOPMENT = "development"
    TESTING = "testing"
    PRODUCTION = "production"


class SettingsError(Exception):
    """The settings are invalid.

    Args:
        problems: one sentence for each problem, beginning with the name of the variable.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(["The settings cannot be used:", *problems]))


_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")

# Connections that the pool keeps, and further ones that it may open under load.
_POOL: Final = {
    Environment.DEVELOPMENT: (3, 5),
    Environment.TESTING: (1, 0),
    Environment.PRODUCTION: (10, 20),
}

# Enough for a health check every 2 s that has to fail twice; and with a quick last request it
# stays below the 10 s after which Docker and Cloud Run kill.
_DRAIN_IN_PRODUCTION: Final = 5.0


class Settings(BaseSettings):
    """The validated settings. Times are in seconds unless the name has another unit."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        # Validators report missing settings together with invalid ones.
        validate_default=True,
        hide_input_in_errors=True,
    )

    # First, because validators of other settings depend on them.
    environment: Environment = Environment.DEVELOPMENT
    session_store: SessionStore = SessionStore.HASHED

    database_url: SecretStr | None = None
    database_schema: str | None = None

    session_table: str | None = None
    session_hash_secret: SecretStr | None = None
    better_auth_secrets: SecretStr | None = None
    session_cache_seconds: Annotated[int, Field(ge=0, le=MAX_SECONDS_LEFT)] = 0

    cors_origins: CommaSeparated | None = None
    allowed_hosts: CommaSeparated | None = None
    api_docs: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    web_concurrency: Annotated[int, Field(ge=1)] = 1
    drain_seconds: Annotated[float | None, Field(ge=0, le=300)] = None

    sqlalchemy_pool_size: Annotated[int | None, Field(ge=1)] = None
    sqlalchemy_max_overflow: Annotated[int | None, Field(ge=0)] = None
    sqlalchemy_pool_timeout: Annotated[float, Field(gt=0)] = 30.0
    sqlalchemy_pool_recycle: Annotated[int, Field(ge=-1)] = 3600
    sqlalchemy_pool_pre_ping: bool = True
    request_deadline_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    live_check_seconds: Annotated[float, Field(ge=1, le=60)] = 10
    live_max_seconds: Annotated[int, Field(ge=60, le=86400)] = 3600
    idempotency_hours: Annotated[int, Field(ge=1, le=8760)] = 24
    trash_days: TrashDays = TRASH_DAYS

    redis_url: SecretStr | None = None
    rate_limit_enabled: bool = True
    rate_limit_read: RateLimit = "100/minute"
    rate_limit_write: RateLimit = "30/minute"
    rate_limit_timeout_ms: Annotated[int, Field(ge=1, le=10_000)] = 500
    forwarded_allow_ips: str = ""

    graphql_introspection: bool | None = None
    graphql_max_depth: Annotated[int, Field(ge=1)] = 10
    graphql_max_aliases: Annotated[int, Field(ge=0)] = 50
    graphql_max_tokens: Annotated[int, Field(ge=1)] = 1000
    graphql_max_definitions: Annotated[int, Field(ge=1)] = 20
    graphql_max_page_size: Annotated[int, Field(ge=1, le=MAX_PAGE)] = MAX_PAGE
    demo_token: SecretStr | None = None

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["json", "human"] | None = None
    log_client_address: bool = False
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int | None, Field(ge=1, le=65535)] = None
    otel_exporter_otlp_endpoint: Annotated[SecretStr, AfterValidator(collector)] | None = None
    build_commit: Commit | None = None

    @field_validator("environment", "session_store", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.strip().upper() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _is_database_url(cls, value: SecretStr | None) -> SecretStr:
        if value is None:
            raise ValueError("It is missing: the PostgreSQL that the auth server uses too.")
        parse_database_url(value.get_secret_value())
        return value

    @field_validator("database_schema")
    @classmethod
    def _is_schema(cls, value: str | None) -> str | None:
        if value is not None:
            require_schema_name(value)
        return value

    @field_validator("session_hash_secret")
    @classmethod
    def _is_strong(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and info.data.get("session_store") is SessionStore.HASHED:
            raise ValueError(
                "It is missing: the secret with which the auth server hashes its tokens, at "
                f"least {MINIMUM_SECRET_LENGTH} characters. (SESSION_STORE=better-auth needs none.)"
            )
        if value is not None:
            hash_secrets(value.get_secret_value())
        return value

    @field_validator("better_auth_secrets")
    @classmethod
    def _are_secrets(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            signing_secrets(value.get_secret_value())
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_shared(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        production = info.data.get("environment") is Environment.PRODUCTION
        if value is None and production:
            raise ValueError("It is missing: the Redis with which the instances share budgets.")
        if value is not None:
            parse_redis_url(value.get_secret_value())
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: list[str] | None) -> list[str] | None:
        return None if value is None else [allowed_host(host) for host in value]

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        production = info.data.get("environment") is Environment.PRODUCTION
        if production and not value:
            raise ValueError("It is missing: the https:// origins of the frontends.")
        problems = [origin_problem(origin, production=production) for origin in value or []]
        if any(problems):
            raise ValueError(" ".join(problem for problem in problems if problem))
        return None if value is None else [normalized_origin(origin) for origin in value]

    @property
    def origins(self) -> list[str]:
        """The browser origins that may call us; not set, those of this machine, on any port.

        Production requires them to be set.
        """
        return self.cors_origins or []

    @property
    def hosts(self) -> list[str] | None:
        """The hosts to answer for; ``None`` for every host, in production unless they are set."""
        if self.is_production:
            return self.allowed_hosts
        return [*_LOOPBACK, self.host.lower(), *(self.allowed_hosts or [])]

    @property
    def is_introspectable(self) -> bool:
        """Whether clients may explore the schema: where GraphiQL is, unless set otherwise."""
        if self.graphql_introspection is not None:
            return self.graphql_introspection
        return self.has_pages

    @property
    def has_pages(self) -> bool:
        """Whether GraphiQL and the page at ``/`` are served: with the docs, outside production."""
        return self.api_docs and not self.is_production

    @property
    def is_production(self) -> bool:
        """Whether this instance serves users."""
        return self.environment is Environment.PRODUCTION

    @property
    def logs_json(self) -> bool:
        """Whether log lines are JSON: except in development, unless set otherwise."""
        if self.log_format is not None:
            return self.log_format == "json"
        return self.environment is not Environment.DEVELOPMENT

    @property
    def drain(self) -> float:
        """Seconds between SIGTERM and closing the listener; 0 outside production, unless set."""
        if self.drain_seconds is not None:
            return self.drain_seconds
        return _DRAIN_IN_PRODUCTION if self.is_production else 0.0

    @property
    def pool(self) -> PoolSettings:
        """The pool's settings; the default sizes depend on the environment."""
        size, overflow = _POOL[self.environment]
        return PoolSettings(
            size=self.sqlalchemy_pool_size or size,
            max_overflow=(
                overflow if self.sqlalchemy_max_overflow is None else self.sqlalchemy_max_overflow
            ),
            timeout=self.sqlalchemy_pool_timeout,
            recycle=self.sqlalchemy_pool_recycle,
            pre_ping=self.sqlalchemy_pool_pre_ping,
        )

    @property
    def hash_secrets(self) -> list[bytes]:
        """The secrets with which the auth server hashes tokens, the newest first."""
        if self.session_hash_secret is None:
            return []
        return hash_secrets(self.session_hash_secret.get_secret_value())

    @property
    def signing_secrets(self) -> list[bytes]:
        """better-auth's secrets, the current one first; if empty, signatures are not checked."""
        if self.better_auth_secrets is None:
            return []
        return signing_secrets(self.better_auth_secrets.get_secret_value())

    def masked(self) -> dict[str, str]:
        """Every setting by the name of its variable, as configured; secrets are masked."""
        return {name.upper(): mask(value) for name, value in self}

    def effective(self) -> dict[str, str]:
        """``masked``, with the defaults that depend on the environment, and how many secrets."""
        pool = self.pool
        defaults = {
            "CORS_ORIGINS": self.cors_origins or "localhost, any port",
            "ALLOWED_HOSTS": "any" if self.hosts is None else self.hosts,
            "DRAIN_SECONDS": self.drain,
            "SQLALCHEMY_POOL_SIZE": pool.size,
            "SQLALCHEMY_MAX_OVERFLOW": pool.max_overflow,
            "GRAPHQL_INTROSPECTION": self.is_introspectable,
            "LOG_FORMAT": "json" if self.logs_json else "human",
        }
        # The last secret of a list is the list itself.
        if count := len(self.hash_secrets[:-1]):
            defaults["SESSION_HASH_SECRET"] = f"******** ({count} secrets)"
        return self.masked() | {name: mask(value) for name, value in defaults.items()}

    def chosen(self) -> dict[str, str]:
        """The settings of ``masked`` that differ from their defaults."""
        fields = Settings.model_fields
        return {name.upper(): mask(value) for name, value in self if value != fields[name].default}


def setting_names() -> set[str]:
    """The names of all settings' variables."""
    return {name.upper() for name in Settings.model_fields}


def load(*, dotenv: bool = True, **overrides: Any) -> Settings:
    """Read and validate the settings in the environment and in ``.env``.

    Args:
        dotenv: whether to read `.env`, for what the environment does not set.
        overrides: settings that replace those.

    Raises:
        SettingsError: settings are missing or invalid; it lists all problems.
    """
    try:
        variables = read_lines(Path(DOTENV_FILE), setting_names()) if dotenv else {}
        names = variables.keys() & setting_names() - environment_variables().keys()
        return Settings(**{name.lower(): variables[name] for name in names} | overrides)
    except ValidationError as error:
        raise SettingsError(_problems(error)) from None
    except DotenvError as error:
        raise SettingsError(error.problems) from None


def _problems(error: ValidationError) -> list[str]:
    return [
        f"{str(details['loc'][0]).upper()}: {_sentence(details)}"
        for details in error.errors(include_url=False)
    ]


def _sentence(details: ErrorDetails) -> str:
    """The problem with one setting; its value appears only if it should be a number or boolean."""
    value, limits = repr(details["input"])[:50], details.get("ctx", {})
    match details["type"]:
        case "int_parsing" | "int_from_float":
            return f"{value} is not a whole number."
        case "float_parsing":
            return f"{value} is not a number."
        case "bool_parsing":
            return f"{value} is neither true nor false."
        case "enum" | "literal_error":
            return f"It must be {limits['expected']}.".replace("'", "")
        case "greater_than_equal":
            return f"It must be {limits['ge']} or more."
        case "greater_than":
            return f"It must be more than {limits['gt']}."
        case "less_than_equal":
            return f"It must be {limits['le']} or less."
    return details["msg"].removeprefix("Value error, ")
