"""``/events`` and ``/analytics/summary``: things that happened, and how often they did."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, WrapValidator

from actors.analytics import MOST, record_events
from actors.analytics.event import Event, Instant, batches
from actors.analytics.summary import Window, hourly
from api import examples
from api.idempotency import JsonKeyRoute
from api.openapi import ADDS, IDEMPOTENCY_KEY, JSON, LOCATION, READS, responses
from api.problems import Code, HttpProblem
from api.resources import Accepted, EventCount, EventSummary, Text, reference
from postlude import BackgroundTasks, process
from postlude.ledger import clock

router = APIRouter(tags=["use cases"], route_class=JsonKeyRoute)

_ENVELOPE = len('{"events":[]}')
_LIST = TypeAdapter(Annotated[list[Event], Field(min_length=1, max_length=MOST)])


def _one_or_many(value: Any, _union: Callable[[Any], Any]) -> Event | list[Event]:
    """Validate as what it is, so that faults are told of that and not of the alternative."""
    if isinstance(value, list):
        return _LIST.validate_python(value)
    return Event.model_validate(value)


Events = Annotated[
    Event | Annotated[list[Event], Field(min_length=1, max_length=MOST)],
    WrapValidator(_one_or_many),
    Body(openapi_examples=examples.EVENTS),
]


class SummaryQuery(BaseModel):
    """Which events to count."""

    model_config = ConfigDict(extra="forbid")

    since: Instant | None = Field(
        None,
        description="Beginning with the hour that this is in. Left out: a day before `until`.",
        examples=["2026-11-24T00:00:00Z"],
    )
    until: Instant | None = Field(
        None,
        description="Ending before the hour after this. Left out: with the current hour.",
        examples=["2026-11-25T00:00:00Z"],
    )
    name: Text | None = Field(
        None, description="Only events of this name.", examples=["order.placed"]
    )
    limit: int = Field(1000, ge=1, le=10_000, description="Most counts to list.", examples=[1000])


@router.post(
    "/events",
    status_code=202,
    operation_id="record_events",
    summary="Record one event or several",
    response_description="Accepted: the events are stored once this response is out.",
    responses=LOCATION | responses(*ADDS, *JSON),
    openapi_extra=IDEMPOTENCY_KEY,
)
def record(
    request: Request, response: Response, background_tasks: BackgroundTasks, events: Events
) -> Accepted:
    """Store events in the background, for `/analytics/summary` to count.

    Send ids of your own to be able to send again: of the events with one id the first counts.
    """
    limit = request.app.state.settings.argument_limit - _ENVELOPE
    several = events if isinstance(events, list) else [events]
    parts = batches(several, most=MOST, limit=limit)
    added = [background_tasks.add_task(record_events, part) for part in parts]
    tasks = [reference(request, handle) for handle in added]
    response.headers["location"] = tasks[-1].url
    return Accepted(message="Events are recorded in the background", tasks=tasks)


@router.get(
    "/analytics/summary",
    operation_id="get_summary",
    summary="Count events by hour and name",
    response_description="The counts, by hour and name.",
    responses=responses(*READS, "validation"),
)
def summary(wanted: Annotated[SummaryQuery, Query()]) -> EventSummary:
    """Count events by UTC hour and name: by default those of the last 24 hours.

    Every event that has been stored is counted, however late it came.
    """
    window = _window(wanted.since, wanted.until)
    with process.current().ledger.read() as connection:
        counts = hourly(connection, window, name=wanted.name, limit=wanted.limit + 1)
    return EventSummary(
        since=window.since,
        until=window.until,
        items=[EventCount.model_validate(count) for count in counts[: wanted.limit]],
        complete=len(counts) <= wanted.limit,
    )


def _window(since: datetime | None, until: datetime | None) -> Window:
    try:
        return Window.of(since, until, now=clock.now())
    except ValueError as error:
        fault = {"in": "query", "pointer": "", "detail": f"the window {error}"}
        raise HttpProblem(Code.VALIDATION, f"The window {error}.", errors=[fault]) from None
