"""Every ``POSTLUDE_*`` variable: its default, its meaning, its unit.

Settings are read once per process and never change afterwards. A value that makes no sense stops the
process before it takes work, naming the variable.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, unquote

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from postlude.durations import Duration
from postlude.errors import SettingsError

Retention = Duration | Literal["never"]


class Settings(BaseSettings):
    """What one process runs with. Durations are strings such as "5s", "10m", "7d"."""

    model_config = SettingsConfigDict(
        env_prefix="POSTLUDE_", frozen=True, extra="forbid", env_ignore_empty=True
    )

    data_dir: Path = Field(
        Path("var"),
        description="Folder for the SQLite ledger, mail, files and locks; made absolute.",
    )
    database_url: str = Field(
        "",
        repr=False,
        description="The ledger: sqlite:////path/to/file. Unset: SQLite at {data_dir}/postlude.db.",
    )
    broker_url: str = Field(
        "", repr=False, description="Unset: the ledger delivers tasks. amqp://…: RabbitMQ does."
    )
    actors: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Extra modules that declare actors, separated by commas."
    )
    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("POSTLUDE_PORT", "PORT", "port"),
        description="Port that the API listens on; PORT is read too.",
    )
    workers: int = Field(
        1, ge=1, le=256, description="Worker processes that `postlude run` starts."
    )
    worker_threads: int = Field(
        8, ge=1, le=1024, description="Threads in each worker that `postlude run` starts."
    )
    worker_max_tasks: int = Field(
        0,
        ge=0,
        description="Tasks after which a worker process is replaced, less up to a tenth; 0: never.",
    )
    worker_max_rss: int = Field(
        0,
        ge=0,
        description="Resident memory, in bytes, at which a worker process is replaced; 0: never.",
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="role:secret, separated by commas; roles: viewer, sender, operator."
    )
    mail_url: SecretStr = Field(
        SecretStr(""),
        description="smtp://, smtps:// or smtp+starttls://user:password@host:port. Unset: {data_dir}/mail.",
    )
    mail_from: str = Field("postlude@localhost", description="Sender of the mail that is sent.")
    cache_url: str = Field(
        "",
        repr=False,
        description="Unset: the cache is a table of the ledger. redis://, rediss:// or unix://…: in Redis.",
    )
    storage_url: str = Field(
        "",
        repr=False,
        description="Where uploaded files are kept: file:///path, or a bucket: "
        "s3://bucket/prefix?endpoint=https://host:port&region=name. Unset: {data_dir}/files.",
    )
    file_limit: int = Field(1024**3, ge=1, description="Largest uploaded file, in bytes.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: coloured lines on a terminal, JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level logged."
    )
    heartbeat: Duration = Field(
        "1s", validate_default=True, description="How often a process says that it lives."
    )
    lease: Duration = Field(
        "5s", validate_default=True, description="Silence after which a process counts as dead."
    )
    write_timeout: Duration = Field(
        "5s",
        validate_default=True,
        description="Longest wait for the ledger before a request gets a 503.",
    )
    write_queue: int = Field(
        10_000, ge=1, description="Writes that may wait in one process; beyond it: 503."
    )
    shutdown_timeout: Duration = Field(
        "8s",
        validate_default=True,
        description="How long a stopping worker lets running tasks go on.",
    )
    time_limit_grace: Duration = Field(
        "10s",
        validate_default=True,
        description="How long past its time limit a task may take to stop; then its worker is replaced.",
    )
    unknown_actor_grace: Duration = Field(
        "10m",
        validate_default=True,
        description="How long a task from RabbitMQ waits for a worker that knows its actor; then it fails.",
    )
    argument_limit: int = Field(
        256 * 1024, ge=1024, description="Largest encoded arguments of one task, in bytes."
    )
    result_limit: int = Field(
        256 * 1024, ge=1024, description="Largest encoded result of one task, in bytes."
    )
    attempt_log_limit: int = Field(
        64 * 1024,
        ge=0,
        description="Most that is kept of what one attempt logs, in bytes; 0: nothing is.",
    )
    body_limit: int = Field(
        1024 * 1024, ge=1024, description="Largest JSON request body, in bytes."
    )
    keep_succeeded: Retention = Field(
        "7d",
        validate_default=True,
        description="How long succeeded tasks are kept; 'never': not deleted.",
    )
    keep_cancelled: Retention = Field(
        "7d",
        validate_default=True,
        description="How long cancelled tasks are kept; 'never': not deleted.",
    )
    keep_failed: Retention = Field(
        "never", description="How long failed tasks are kept; 'never': not deleted."
    )
    keep_files: Retention = Field(
        "30d",
        validate_default=True,
        description="How long uploaded files are kept; 'never': not deleted.",
    )
    keep_events: Retention = Field(
        "30d",
        validate_default=True,
        description="How long events are kept; 'never': not deleted. Their counts are kept for ever.",
    )
    idempotency_retention: Duration = Field(
        "24h",
        validate_default=True,
        description="How long a request may be repeated under its Idempotency-Key.",
    )
    allow_unsafe_sqlite: bool = Field(
        default=False, description="Run although the SQLite library can corrupt a WAL database."
    )

    @field_validator("actors", "api_keys", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("database_url")
    @classmethod
    def _one_spelling(cls, value: str) -> str:
        for prefix in ("postgres://", "postgresql://"):
            if value.startswith(prefix):
                return "postgresql+psycopg://" + value.removeprefix(prefix)
        path = value.removeprefix("sqlite:///")
        if path != value and not path.startswith("/"):
            if path in {"", ":memory:"}:
                message = "names no file; a ledger must outlive its process"
                raise ValueError(message)
            return f"sqlite:///{quote(str(Path(unquote(path)).resolve()))}"
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.lease < 2 * self.heartbeat:
            message = "POSTLUDE_LEASE must be at least twice POSTLUDE_HEARTBEAT"
            raise ValueError(message)
        for name in ("heartbeat", "write_timeout", "idempotency_retention"):
            if not getattr(self, name):
                message = f"POSTLUDE_{name.upper()} must be longer than 0"
                raise ValueError(message)
        if self.database_url and not self.database_url.startswith(
            ("sqlite:///", "postgresql+psycopg://")
        ):
            message = "POSTLUDE_DATABASE_URL must start with sqlite:/// or postgresql://"
            raise ValueError(message)
        if self.broker_url and not self.broker_url.startswith(("amqp://", "amqps://")):
            message = "POSTLUDE_BROKER_URL must start with amqp:// or amqps://, or be unset"
            raise ValueError(message)
        return self

    @property
    def ledger_url(self) -> str:
        """Where the ledger is: ``database_url``, or the SQLite file in ``data_dir``."""
        return self.database_url or f"sqlite:///{quote(str(self.data_dir / 'postlude.db'))}"


def load(**overrides: Any) -> Settings:
    """Read the environment; ``overrides`` win. Raises SettingsError naming each bad variable."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in fault["loc"][:1])
            words = fault["msg"].removeprefix("Value error, ")
            label = name if name.isupper() else f"POSTLUDE_{name.upper()}"
            faults.append(f"{label}: {words}" if name else words)
        raise SettingsError("; ".join(faults)) from None


def unknown_variables() -> list[str]:
    """Return the ``POSTLUDE_*`` variables that are set and mean nothing: misspelt ones, mostly."""
    known = {f"POSTLUDE_{name.upper()}" for name in Settings.model_fields}
    return sorted(name for name in os.environ if name.startswith("POSTLUDE_") and name not in known)


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return this process's settings, read once."""
    return load()
