"""``postlude tasks``: look at tasks and put them right, with nothing running but the database."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from postlude.ledger.ledger import Ledger
    from postlude.ledger.queries.tasks import AttemptView, TaskView
    from postlude.states import State

tasks = typer.Typer(help="List, show, cancel and retry tasks.", no_args_is_help=True)

Ids = Annotated[list[str], typer.Argument(help="Ids of tasks.", metavar="ID…")]


@tasks.command("list")
def list_tasks(
    state: Annotated[str, typer.Option(help="Only tasks in this state.")] = "",
    actor: Annotated[str, typer.Option(help="Only tasks of this actor.")] = "",
    queue: Annotated[str, typer.Option(help="Only tasks in this queue.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="Most lines.")] = 50,
) -> None:
    """Print the newest tasks, one a line: id, state, reason, actor, attempts, when it was added."""
    from postlude.ledger.queries.tasks import page

    wanted = _state(state)
    with closing(_ledger()) as ledger, ledger.read() as connection:
        views, _ = page(
            connection, state=wanted, actor=actor or None, queue=queue or None, limit=limit
        )
    for view in views:
        where = f"{view.state} ({view.reason})" if view.reason else view.state
        added = f"{view.created_at:%Y-%m-%d %H:%M:%S}"
        typer.echo(f"{view.id}  {where:<30} {view.actor:<30} {view.attempts:>3}  {added}")


@tasks.command()
def show(task_id: Annotated[str, typer.Argument(help="Its id.", metavar="ID")]) -> None:
    """Print all that is known about a task, why it is not running, its attempts and what they logged."""
    from postlude import place
    from postlude.errors import UnknownTask
    from postlude.ledger import clock
    from postlude.ledger.queries.tasks import attempts, get

    with closing(_ledger()) as ledger, ledger.read() as connection:
        view = get(connection, task_id)
        if view is None:
            message = f"there is no task {task_id!r}: it never was, or its retention is over"
            raise UnknownTask(message)
        tries = attempts(connection, task_id)
        where = place.find(connection, view, tries, clock.now())
    _print_task(view)
    typer.echo(f"{'place':<17} {where}")
    for attempt in tries:
        _print_attempt(attempt)


@tasks.command()
def cancel(ids: Ids) -> None:
    """Cancel tasks; running ones are interrupted by their worker. Exit code 1 if one had ended."""
    from postlude import interventions

    _each(ids, interventions.cancel)


@tasks.command()
def retry(ids: Ids) -> None:
    """Have tasks run now that failed, were cancelled or wait for their time, as if they were new."""
    from postlude import interventions

    _each(ids, interventions.retry)


def _each(ids: list[str], act: Callable[[Ledger, str], State]) -> None:
    from postlude.errors import PostludeError

    failed = False
    with closing(_ledger()) as ledger:
        for task_id in ids:
            try:
                typer.echo(f"{task_id}  {act(ledger, task_id)}")
            except PostludeError as error:
                failed = True
                typer.echo(f"postlude: {error}", err=True)
    if failed:
        raise typer.Exit(1)


def _print_task(view: TaskView) -> None:
    for name in (f.name for f in fields(view) if f.name != "seq"):
        value = getattr(view, name)
        if value is not None:
            typer.echo(f"{name:<17} {_written(value)}")


def _print_attempt(attempt: AttemptView) -> None:
    typer.echo(f"\nattempt {attempt.number}: {attempt.outcome}, worker {attempt.worker}")
    typer.echo(f"  {_written(attempt.started_at)} to {_written(attempt.finished_at)}")
    for line in attempt.logs:
        typer.echo(f"  {line['at']} {line['level']:<8} {line['logger']}: {line['message']}")
    if attempt.traceback or attempt.error_type:
        typer.echo(attempt.traceback or f"  {attempt.error_type}: {attempt.error_message}")


def _written(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _state(word: str) -> State | None:
    from postlude.states import State

    if word and word not in set(State):
        message = f"there is no state {word!r}; there are: {', '.join(State)}"
        raise typer.BadParameter(message, param_hint="--state")
    return State(word) if word else None


def _ledger() -> Ledger:
    from postlude import logs
    from postlude.ledger.ledger import Ledger
    from postlude.settings import load

    settings = load(log_level="warning")
    logs.configure(settings, "tasks")
    return Ledger(settings)
