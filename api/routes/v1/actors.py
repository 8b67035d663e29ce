"""``/v1/actors``: what can run, and adding tasks for it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import dramatiq
from fastapi import APIRouter, Body, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from api import examples, roster
from api.idempotency import JsonKeyRoute
from api.openapi import ADDS, IDEMPOTENCY_KEY, JSON, LOCATION, READS, responses
from api.problems import Code, HttpProblem
from api.resources import Actor, ActorPage, AddedTask, task_url
from api.roster import KnownActor
from api.task_options import TaskOptions
from postlude import BackgroundTasks
from postlude.broker import broker
from postlude.broker.intake import signature
from postlude.errors import BadArguments, UnknownActor
from postlude.ledger import clock
from postlude.ledger.clock import to_micros
from postlude.states import State

router = APIRouter(prefix="/v1/actors", tags=["actors"], route_class=JsonKeyRoute)

Name = Annotated[str, Path(description="The actor's name.", examples=["send_notification"])]


class NewTask(BaseModel):
    """A task to be added."""

    model_config = ConfigDict(extra="forbid")

    args: dict[str, Any] = Field(
        default_factory=dict, description="The actor's arguments, by name."
    )
    options: TaskOptions = Field(default_factory=TaskOptions)


@router.get(
    "",
    operation_id="list_actors",
    summary="List actors",
    response_description="All actors.",
    responses=responses(*READS),
)
def list_actors(request: Request) -> ActorPage:
    """List every actor that this process or a worker knows, by name."""
    return ActorPage(items=[_resource(request, known) for known in roster.known().values()])


@router.get(
    "/{name}",
    operation_id="get_actor",
    summary="Look at one actor",
    response_description="The actor.",
    responses=responses(*READS, "unknown-actor"),
)
def get_actor(request: Request, name: Name) -> Actor:
    """Say what an actor is called with, and how many live workers know it."""
    known = roster.known().get(name)
    if known is None:
        raise _unknown(name)
    return _resource(request, known)


@router.post(
    "/{name}/tasks",
    status_code=202,
    response_description="Accepted: the task runs once this response is out, or when it is due.",
    operation_id="add_task",
    summary="Add a task",
    responses=LOCATION
    | responses(*ADDS, *JSON, "unknown-actor", "actor-not-loaded", "bad-options"),
    openapi_extra=IDEMPOTENCY_KEY,
)
async def add_task(  # FastAPI passes by name
    request: Request,
    response: Response,
    background_tasks: BackgroundTasks,
    name: Name,
    body: Annotated[NewTask, Body(openapi_examples=examples.NEW_TASKS)],
) -> AddedTask:
    """Have an actor run once this response is out, or later.

    The arguments are checked against the actor's signature before anything is stored.
    """
    actor = broker().actors.get(name)
    if actor is None:
        raise await run_in_threadpool(_absence, name)
    args, kwargs = _typed(actor, body.args)
    run_at = body.options.start(clock.now())
    options = body.options.for_message()
    if run_at is not None:
        options["eta"] = to_micros(run_at) // 1000
    handle = background_tasks.add_task_with_options(actor, args=args, kwargs=kwargs, **options)
    url = task_url(request, handle.id)
    response.headers["location"] = url
    return AddedTask(
        id=handle.id,
        actor=handle.actor,
        queue=handle.queue,
        state=State.ACCEPTED,
        run_at=run_at,
        url=url,
    )


def _typed(
    actor: dramatiq.Actor[..., Any], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what to call ``actor`` with: JSON has no datetimes, but its signature has."""
    wanted = signature(actor)
    try:
        return wanted.decode(wanted.encode_named(named))
    except BadArguments as error:
        faults = ({**f, "in": "body", "pointer": f"/args{f['pointer']}"} for f in error.errors)
        raise BadArguments(str(error), tuple(faults)) from None


def _absence(name: str) -> UnknownActor | HttpProblem:
    if name not in roster.known():
        return _unknown(name)
    detail = (
        f"Workers know actor {name!r}, but this process does not, so it cannot check "
        "arguments; name the module that declares it in POSTLUDE_ACTORS here too."
    )
    return HttpProblem(Code.ACTOR_NOT_LOADED, detail)


def _unknown(name: str) -> UnknownActor:
    message = f"there is no actor {name[:100]!r}; GET /v1/actors lists those there are"
    return UnknownActor(message)


def _resource(request: Request, known: KnownActor) -> Actor:
    root = request.scope.get("root_path", "")
    return Actor(
        name=known.name,
        queue=known.queue,
        schema=known.schema,
        options=known.options,
        workers=known.workers,
        loaded=known.loaded,
        url=f"{root}/v1/actors/{quote(known.name, safe='')}",
    )
