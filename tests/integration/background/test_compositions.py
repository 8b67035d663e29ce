"""``add_task`` of a pipeline or a group: promised by the response as a whole, withdrawn as a whole."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import dramatiq
import pytest
from dramatiq import group, pipeline
from dramatiq.brokers.stub import StubBroker
from fastapi import HTTPException
from fastapi.responses import JSONResponse

from postlude import BackgroundTasks, interventions
from postlude.errors import BadArguments, BadOptions
from postlude.states import Reason, State


@dramatiq.actor(actor_name="composed-step")
def step(x: int, y: int = 0) -> int:
    """Never runs here: these tests have no worker."""


def composed() -> group:
    """A group of a pipeline and a task, with a callback that is a pipeline."""
    together = group([step.message(1) | step.message(2), step.message(3)])
    together.add_completion_callback((step.message(4) | step.message(5)).messages[0])
    return together


def described(site):
    return [(view.arguments, str(view.state)) for view in site.views()]


def test_a_pipeline_gives_a_handle_for_each_step_and_is_released_with_its_response(site):
    pipe = step.message(1) | step.message(2) | step.message(3)

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        handles = tasks.add_task(pipe)
        assert tasks.tasks == handles
        return [handle.id for handle in handles]

    ids = site.call("POST", "/").json()

    assert ids == [message.message_id for message in pipe.messages]
    assert described(site) == [
        ({"x": 1}, "queued"),
        ({"x": 2}, "waiting"),
        ({"x": 3}, "waiting"),
    ]


def test_a_group_gives_handles_for_its_members_and_then_for_its_callbacks(site):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        return [handle.id for handle in tasks.add_task(composed())]

    ids = site.call("POST", "/").json()

    assert ids == [view.id for view in site.views()]
    assert [view.arguments["x"] for view in site.views()] == [1, 2, 3, 4, 5]
    states = [str(view.state) for view in site.views()]
    assert states == ["queued", "waiting", "queued", "waiting", "waiting"]


def test_a_composition_is_accepted_before_the_response_starts(life, one_site):
    seen = []

    class Late(JSONResponse):
        async def __call__(self, scope, receive, send):
            async def watched(message):
                await send(message)
                seen.append([str(view.state) for view in life.views()])

            await super().__call__(scope, receive, watched)

    @one_site.app.post("/", response_class=Late)
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(composed())

    one_site.call("POST", "/")

    assert seen[0] == ["accepted", "waiting", "accepted", "waiting", "waiting"]


@pytest.mark.parametrize("fault", ["error", "argument", "step", "twice"])
def test_of_a_failed_request_nothing_is_stored(site, fault):
    message = step.message(1)
    bad = {
        "argument": lambda: composed_with(step.message("x")),
        "step": lambda: step.message(1) | step.message(1, 2),
        "twice": lambda: pipeline([message, message]),
    }

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(composed())
        if fault == "error":
            raise HTTPException(418)
        tasks.add_task(bad[fault]())

    assert site.call("POST", "/").status_code in {418, 500}
    assert site.views() == []


def composed_with(message) -> group:
    together = composed()
    together.children.append(message)
    return together


def test_what_is_refused_leaves_what_was_added_before_it(site):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        kept = tasks.add_task(step, 7)
        with pytest.raises(BadArguments):
            tasks.add_task(step.message(1) | step.message(2) | step.message("x"))
        with pytest.raises(BadOptions, match="already"):
            tasks.add_task(pipeline([step.message(1), step.message(2).copy(message_id=kept.id)]))
        assert tasks.tasks == [kept]

    assert site.call("POST", "/").status_code == 200
    assert described(site) == [({"x": 7}, "queued")]


def test_a_composition_made_by_hand_and_never_called_is_withdrawn_with_its_callbacks(site):
    @site.app.post("/")
    async def endpoint():
        BackgroundTasks().add_task(composed())

    site.call("POST", "/")

    assert {(view.state, view.reason) for view in site.views()} == {
        (State.CANCELLED, Reason.REQUEST_FAILED)
    }
    assert len(site.views()) == 5


def test_delays_are_those_of_run(site):
    first = step.message_with_options(args=(1,), delay=70_000)

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(first | step.message(2))
        tasks.add_task(step.message(3) | step.message(4), delay=timedelta(seconds=80))
        tasks.add_task(group([step.message(5)]), delay=90_000)
        steps = tasks.add_task((step.message(6) | step.message(7)).run, delay=60_000)
        members = tasks.add_task(partial(group([step.message(8)]).run, delay=50_000))
        assert (len(steps), len(members), len(tasks)) == (2, 1, 8)

    site.call("POST", "/")

    waits = [view.run_at and (view.run_at - view.created_at).seconds for view in site.views()]
    assert waits == [70, None, 80, None, 90, 60, None, 50]


def test_groups_without_callbacks_and_groups_in_them_are_plain_tasks(site):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        inner = group([step.message(1), step.message(2)])
        assert len(tasks.add_task(group([inner, step.message(3)]))) == 3
        assert tasks.add_task(group([])) == []

    assert site.call("POST", "/").status_code == 200
    assert described(site) == [({"x": x}, "queued") for x in (1, 2, 3)]


def test_a_message_that_starts_a_pipeline_is_no_task_of_its_own(life):
    with pytest.raises(BadOptions, match="as a whole"):
        BackgroundTasks().add_task((step.message(1) | step.message(2)).messages[0])


@pytest.mark.parametrize("kind", [pipeline, group])
def test_a_composition_for_another_broker_is_refused_by_name(life, kind):
    with pytest.raises(ValueError, match=f"this {kind.__name__} is bound to another .*StubBroker"):
        BackgroundTasks().add_task(kind([step.message(1)], broker=StubBroker()))


def test_a_composition_takes_no_arguments(life):
    with pytest.raises(TypeError):
        BackgroundTasks().add_task(step.message(1) | step.message(2), 3)


def test_a_message_that_is_twice_in_a_group_is_refused_when_that_is_added(site):
    twice = step.message(1)

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        with pytest.raises(BadOptions, match="twice"):
            tasks.add_task(group([twice, twice]))
        return "refused"

    assert site.call("POST", "/").json() == "refused"
    assert site.views() == []


def test_a_group_that_is_cancelled_before_its_response_calls_nobody_back(site):
    @site.app.post("/")
    def endpoint(tasks: BackgroundTasks):
        together = group([step.message(1), step.message(2)])
        together.add_completion_callback(step.message(3))
        handles.extend(tasks.add_task(together))
        return "added"

    class CancelsEarly:
        """Stands around the application, where the tasks are stored and not released."""

        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def cancelling(message):
                if message["type"] == "http.response.start":
                    for handle in handles[:2]:
                        interventions.cancel(site.life.ledger, handle.id)
                await send(message)

            await self.app(scope, receive, cancelling)

    handles = []
    site.app.add_middleware(CancelsEarly)
    site.call("POST", "/")

    assert [str(view.state) for view in site.views()] == ["cancelled"] * 3
