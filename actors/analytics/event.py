"""Events as they are sent: a name, an instant, and some data beside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import uuid_utils
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
)
from pydantic_core import to_json

from postlude.ledger import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DATA_LIMIT = 4096
"""Largest ``data`` of one event, in bytes of JSON."""
_YEARS = range(1970, 3000)


def _no_number(at: Any) -> Any:
    """Refuse a number, whose unit could only be guessed: Pydantic takes large ones for milliseconds."""
    try:
        float(at)
    except (TypeError, ValueError):
        return at
    message = "write an instant as '2026-11-24T09:00:00Z', not as a number"
    raise ValueError(message)


def _in_utc(at: datetime) -> datetime:
    """Return ``at`` in UTC. The bounds keep every sum of it and a few days in range."""
    if at.year not in _YEARS:
        message = f"is not between the years {_YEARS[0]} and {_YEARS[-1]}"
        raise ValueError(message)
    return at.astimezone(UTC)


def _small(data: dict[str, JsonValue]) -> dict[str, JsonValue]:
    size = len(to_json(data))
    if size > DATA_LIMIT:
        message = f"{size} bytes of JSON are over the limit of {DATA_LIMIT}"
        raise ValueError(message)
    return data


Instant = Annotated[AwareDatetime, BeforeValidator(_no_number), AfterValidator(_in_utc)]
"""An instant with an offset from UTC; without one it is refused, for it could be any of many."""
Name = Annotated[str, Field(min_length=1, max_length=200)]
Data = Annotated[dict[str, JsonValue], AfterValidator(_small)]


class Event(BaseModel):
    """Something that happened.

    What is left out is filled in when the event is first looked at, not when it is stored: a task
    that runs twice sees the same id both times.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        default_factory=lambda: str(uuid_utils.uuid7()),
        description="Of two events with one id the first counts. Left out: a new one.",
    )
    name: Name = Field(description="What is counted.")
    at: Instant = Field(default_factory=clock.now, description="When. Left out: now.")
    data: Data = Field(
        default_factory=dict, description=f"Anything else, {DATA_LIMIT} bytes of JSON at most."
    )


def hour_of(at: datetime) -> datetime:
    """Return the beginning of the UTC hour that ``at`` is in."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def following(hour: datetime) -> datetime:
    """Return the beginning of the next hour. In UTC all have 3600 seconds."""
    return hour + timedelta(hours=1)


def batches(events: Iterable[Event], *, most: int, limit: int) -> Iterator[list[Event]]:
    """Divide ``events`` so that each part has ``most`` at most and fits a task's arguments.

    ``limit`` is in bytes of JSON. An event that is over it alone is a batch alone, to be refused.
    """
    batch: list[Event] = []
    size = 0
    for event in events:
        weight = len(event.model_dump_json().encode()) + 1
        if batch and (len(batch) == most or size + weight > limit):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += weight
    if batch:
        yield batch
