"""The options that a client may give a task, and what Dramatiq calls them.

Spans are strings such as "10s" or seconds, here as everywhere in the API; Dramatiq counts its own
in milliseconds.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from postlude.broker.options import LONGEST_KEY
from postlude.durations import parse_duration

_MILLISECOND = timedelta(milliseconds=1)
_MOST_NAMED = 5
_HOLDS = ("unfinished", "queued")


def _span(value: Any) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        message = "write a span as '500ms', '30s', '5m', '1h30m', or as a number of seconds"
        raise ValueError(message)  # noqa: TRY004 # Pydantic takes a TypeError for a bug
    return parse_duration(value)


def _real_span(value: Any) -> timedelta:
    span = _span(value)
    if span < _MILLISECOND:
        message = "this span must be at least 1ms"
        raise ValueError(message)
    return span


def _hold(value: Any) -> str | timedelta:
    return value if value in _HOLDS else _real_span(value)


def _instant(value: Any) -> datetime:
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        message = "write an instant as '2027-01-01T09:00:00+01:00'"
        raise ValueError(message) from None
    if at.utcoffset() is None:
        message = "an instant needs an offset from UTC, as in '2027-01-01T09:00:00+01:00' or '…Z'"
        raise ValueError(message)
    try:
        return at.astimezone(UTC)
    except OverflowError:
        message = "this instant is beyond the calendar"
        raise ValueError(message) from None


_SPAN_SCHEMA = {"type": ["string", "number"], "examples": ["10s", 90]}
_INSTANT_SCHEMA = {
    "type": "string",
    "format": "date-time",
    "examples": ["2027-01-01T09:00:00+01:00"],
}
Span = Annotated[timedelta, BeforeValidator(_span), WithJsonSchema(_SPAN_SCHEMA)]
RealSpan = Annotated[timedelta, BeforeValidator(_real_span), WithJsonSchema(_SPAN_SCHEMA)]
_HOLD_SCHEMA = {
    "anyOf": [{"enum": list(_HOLDS)}, {"type": ["string", "number"]}],
    "examples": [*_HOLDS, "10m"],
}
Hold = Annotated[str | timedelta, BeforeValidator(_hold), WithJsonSchema(_HOLD_SCHEMA)]
Instant = Annotated[datetime, BeforeValidator(_instant), WithJsonSchema(_INSTANT_SCHEMA)]


class TaskOptions(BaseModel):
    """Options of one task; what is left out is as the actor declares it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    delay: Span | None = Field(None, description="Run it no sooner than this long from now.")
    run_at: Instant | None = Field(None, description="Run it no sooner than this instant.")
    priority: int | None = Field(
        None, ge=-(2**31), lt=2**31, description="Lower runs first, as in Dramatiq."
    )
    max_retries: int | None = Field(
        None, ge=0, le=1_000_000, description="How often it is tried again after a failure."
    )
    min_backoff: Span | None = Field(None, description="Shortest wait before it is tried again.")
    max_backoff: Span | None = Field(None, description="Longest wait before it is tried again.")
    time_limit: RealSpan | None = Field(None, description="Longest that one attempt may take.")
    max_age: RealSpan | None = Field(
        None, description="Not started within this span after it was added, it fails as expired."
    )
    unique_key: str | None = Field(
        None,
        min_length=1,
        max_length=LONGEST_KEY,
        description="While another task of this actor has this key, this one is at once cancelled "
        "as its `duplicate`.",
        examples=["order-4711"],
    )
    unique_for: Hold | None = Field(
        None,
        description="Whoever has the key has it until it is finished (`unfinished`, the default), "
        "until a worker takes it (`queued`), or for a span from when it was added.",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_unknown(cls, value: Any) -> Any:
        unknown = sorted(set(value) - set(cls.model_fields)) if isinstance(value, dict) else []
        if unknown:
            named = ", ".join(repr(name[:40]) for name in unknown[:_MOST_NAMED])
            message = f"unknown option {named}; known: {', '.join(cls.model_fields)}"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.delay is not None and self.run_at is not None:
            message = "give delay or run_at, not both"
            raise ValueError(message)
        return self

    def start(self, now: datetime) -> datetime | None:
        """Return the instant before which the task is not to run, in whole milliseconds.

        None means at once.
        """
        at = self.run_at if self.delay is None else now + self.delay
        return at and at.replace(microsecond=at.microsecond // 1000 * 1000)

    def for_message(self) -> dict[str, Any]:
        """Return what was given but for when to run, under Dramatiq's names and in its units."""
        given = self.model_dump(exclude={"delay", "run_at"}, exclude_none=True)
        return {
            name: value // _MILLISECOND if isinstance(value, timedelta) else value
            for name, value in given.items()
        }
