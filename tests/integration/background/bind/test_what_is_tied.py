"""``bind`` and pipelines, groups, repeated requests."""

from __future__ import annotations

import dramatiq
from dramatiq import group
from fastapi import APIRouter

from postlude import BackgroundTasks, IdempotentRoute


@dramatiq.actor(actor_name="bound-step")
def step(x: int, y: int = 0) -> int:
    """Never runs here: these tests have no worker."""


def states(shop):
    return [str(view.state) for view in shop.site.views()]


def test_a_pipeline_and_a_group_are_stored_with_the_order_and_released_after_the_response(shop):
    together = group([step.message(4), step.message(5)])
    together.add_completion_callback(step.message(6))

    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.order("ada")
            handles = tasks.add_task(step.message(1) | step.message(2))
            handles += tasks.add_task(together)
            await till.commit()
            shop.events.append((len(handles), states(shop)))

    assert shop.post(endpoint).status_code == 200
    assert shop.events == [(5, ["accepted", "waiting", "accepted", "accepted", "waiting"])]
    assert states(shop) == ["queued", "waiting", "queued", "queued", "waiting"]


def test_a_pipeline_goes_with_a_rollback(shop):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.order("ada")
            tasks.add_task(step.message(1) | step.message(2))
            await till.rollback()

    assert shop.post(endpoint).status_code == 200
    assert (states(shop), shop.orders()) == ([], [])


def test_a_request_with_an_idempotency_key_cannot_be_bound(shop):
    router = APIRouter(route_class=IdempotentRoute)

    @router.post("/keyed")
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)

    shop.app.include_router(router)

    assert shop.call("POST", "/keyed", headers={"idempotency-key": "k"}).status_code == 500
    assert shop.call("POST", "/keyed").status_code == 200
    assert states(shop) == []
