"""Requests per second that accept one task each, under one uvicorn, with 32 connections."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.consumption import Usage

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.program import Program
    from benchmarks.stage import Stage


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A way to accept a task; ``module`` is in benchmarks/endpoints."""

    name: str
    title: str
    module: str
    keeps: str
    service: str = ""
    quick: bool = False


FIRST = 5
"""Requests that open connections and files, before anything is measured."""
_PUBLISHED = "published, not confirmed"

ENDPOINTS = (
    Endpoint("bare", "bare endpoint, no task", "bare", "nothing to keep", quick=True),
    Endpoint(
        "postlude",
        "Postlude BackgroundTasks, SQLite",
        "postlude_sqlite",
        "durable: on disk before the answer",
        quick=True,
    ),
    # Not in a quick run: that is over before the tasks are, which pile up behind the answers.
    Endpoint(
        "background-tasks",
        "FastAPI BackgroundTasks, def",
        "background_tasks",
        "volatile: dies with the process",
    ),
    Endpoint(
        "dramatiq",
        "Dramatiq .send(), def endpoint",
        "dramatiq_def",
        _PUBLISHED,
        service="RabbitMQ",
        quick=True,
    ),
    Endpoint(
        "dramatiq-async",
        "Dramatiq .send(), blocking an async endpoint",
        "dramatiq_async",
        _PUBLISHED,
        service="RabbitMQ",
    ),
    Endpoint(
        "celery", "Celery .delay(), def endpoint", "celery_def", _PUBLISHED, service="RabbitMQ"
    ),
    Endpoint(
        "celery-async",
        "Celery .delay(), blocking an async endpoint",
        "celery_async",
        _PUBLISHED,
        service="RabbitMQ",
    ),
)


def measure(bench: Bench) -> None:
    """Load the endpoints in turn, in as many rounds as planned; no worker takes part."""
    with ExitStack() as stack:
        sites = [site for each in ENDPOINTS if (site := _open(bench, each, stack))]
        bench.say(f"accept: {len(sites)} servers are up")
        for number in range(bench.plan.rounds):
            for site in sites:
                bench.attempt(
                    site.key, partial(_load, bench, site), peer=bool(site.endpoint.service)
                )
            bench.say(f"accept: round {number + 1}")


@dataclass(frozen=True, slots=True)
class _Site:
    """An endpoint that is served."""

    endpoint: Endpoint
    stage: Stage
    server: Program
    url: str

    @property
    def key(self) -> str:
        return f"accept.{self.endpoint.name}"


def _open(bench: Bench, endpoint: Endpoint, stack: ExitStack) -> _Site | None:
    """Serve an endpoint until ``stack`` is closed; None if it takes no part in this run."""
    name = f"accept-{endpoint.name}"
    if not bench.takes_part([f"accept.{endpoint.name}"], endpoint.service, quick=endpoint.quick):
        return None
    stage = stack.enter_context(bench.stage(name, FIRST, endpoint.service))
    if endpoint.name == "postlude":
        stage.make_ledger()
    server, url = stack.enter_context(stage.served(endpoint.module))
    stage.load(url, connections=1, count=FIRST)
    return _Site(endpoint, stage, server, url)


def _load(bench: Bench, site: _Site) -> None:
    plan = bench.plan
    used = Usage(site.server)
    figures = site.stage.load(
        site.url, connections=plan.connections, warm_up=plan.warm_up_s, seconds=plan.load_s
    )
    bench.note(
        site.key,
        figures["rate"],
        title=site.endpoint.title,
        unit="requests/s",
        keeps=site.endpoint.keeps,
        p50_ms=figures["p50"],
        p99_ms=figures["p99"],
        client_us=figures["cpu_s"] / figures["answers"] * 1e6,
        **used.per(figures["answers"]),
    )
