"""``run()`` of pipelines and groups: all of it is stored, under the ids that the sender knows, or nothing."""

from __future__ import annotations

import threading

import dramatiq
import dramatiq.brokers.stub
import pytest
import structlog
from dramatiq import group, pipeline
from dramatiq.middleware import Middleware
from dramatiq.results import ResultFailure, ResultMissing

from postlude.broker import broker
from postlude.errors import BadArguments, BadOptions, UnknownActor
from postlude.states import Reason, State

QUEUE = "compositions"


@dramatiq.actor(actor_name="compositions-add", queue_name=QUEUE, max_retries=0)
def add(x: int, y: int = 1) -> int:
    return x + y


@dramatiq.actor(actor_name="compositions-secret", queue_name=QUEUE, store_results=False)
def secret() -> int:
    return 40


@dramatiq.actor(actor_name="compositions-odd", queue_name=QUEUE)
def odd(*, stored: bool = True) -> object:
    return object()


@dramatiq.actor(actor_name="compositions-fail", queue_name=QUEUE, max_retries=0)
def fail(x: int = 0) -> int:
    message = "no"
    raise ValueError(message)


@dramatiq.actor(actor_name="compositions-skipped", queue_name=QUEUE)
def skipped() -> None:
    """Does not run: see ``Hooks``."""


@dramatiq.actor(actor_name="compositions-silent", queue_name=QUEUE)
def silent() -> None:
    """Returns nothing."""


@dramatiq.actor(actor_name="compositions-kind", queue_name=QUEUE)
def kind(x) -> str:
    return type(x).__name__


@dramatiq.actor(actor_name="compositions-told", queue_name=QUEUE)
def told(word: str = "") -> str:
    return word


class Hooks(Middleware):
    """Somebody's middleware: it skips one actor, and enqueues compositions after another."""

    def __init__(self) -> None:
        self.after = {}

    def before_process_message(self, broker, message):
        if message.actor_name == skipped.actor_name:
            raise dramatiq.middleware.SkipMessage

    def after_process_message(self, broker, message, *, result=None, exception=None):
        work = self.after.pop(message.message_id, None)
        if work is not None:
            work.run()


@pytest.fixture(scope="module", autouse=True)
def hooks():
    middleware = Hooks()
    broker().add_middleware(middleware)
    yield middleware
    broker().middleware.remove(middleware)


def without_callbacks(*children) -> group:
    return group(children)


def with_callbacks(*children, told_of=(told,)) -> group:
    together = group(children)
    for actor in told_of:
        together.add_completion_callback(actor.message("done"))
    return together


def test_a_pipeline_is_stored_as_a_whole_and_its_results_are_read_by_their_ids(site):
    pipe = (add.message(1, 2) | add.message(3) | add.message(4)).run()

    assert [view.id for view in site.views()] == [m.message_id for m in pipe.messages]
    assert site.states() == ["queued", "waiting", "waiting"]
    assert (pipe.completed, pipe.completed_count) == (False, 0)
    assert site.work() == ["add"] * 3
    assert (pipe.get_result(), list(pipe.get_results())) == (10, [3, 6, 10])
    assert (pipe.completed, pipe.completed_count) == (True, 3)


def test_a_result_is_passed_on_where_it_is_not_stored(site):
    pipe = (secret.message() | add.message(2)).run()

    site.work()

    assert site.view(pipe.messages[0]).result is None
    assert pipe.get_result() == 42


@pytest.mark.parametrize("stored", [True, False])
def test_none_is_a_result_like_any_other(site, stored):
    nothing = silent.message_with_options(store_results=stored)

    pipe = (nothing | kind.message()).run()

    assert site.work() == ["silent", "kind"]
    assert pipe.get_result() == "NoneType"


def test_a_result_of_the_wrong_type_fails_the_step_that_takes_it(site):
    pipe = (told.message("word") | add.message() | add.message()).run()

    assert site.work() == ["told"]
    second, third = (site.view(message) for message in pipe.messages[1:])
    assert (second.state, second.reason) == (State.FAILED, Reason.BAD_ARGUMENTS)
    assert "argument 'x'" in site.last_attempt(pipe.messages[1]).error_message
    assert (third.state, third.reason) == (State.CANCELLED, Reason.UPSTREAM_FAILED)
    with pytest.raises(ResultFailure, match="upstream-failed"):
        pipe.get_result()


@pytest.mark.parametrize("stored", [True, False])
def test_a_result_without_a_form_in_json_fails_the_step_that_takes_it(site, stored):
    start = odd.message_with_options(store_results=stored)
    pipe = (start | told.message_with_options(pipe_ignore=True)).run()
    taken = (odd.message_with_options(store_results=stored) | add.message() | told.message()).run()

    assert sorted(site.work()) == ["odd", "odd", "told"]
    assert pipe.get_result() == ""
    assert site.view(taken.messages[0]).state is State.SUCCEEDED
    assert "cannot be stored as JSON" in site.last_attempt(taken.messages[0]).error_message
    second, third = (site.view(message) for message in taken.messages[1:])
    assert (second.state, second.reason) == (State.FAILED, Reason.BAD_ARGUMENTS)
    assert (third.state, third.reason) == (State.CANCELLED, Reason.UPSTREAM_FAILED)


def test_what_a_middleware_skips_has_nothing_to_pass_on(site):
    pipe = (skipped.message() | told.message_with_options(pipe_ignore=True)).run()
    together = with_callbacks(skipped.message()).run()

    assert site.work() == ["skipped", "skipped", "told"]
    second = site.view(pipe.messages[1])
    assert (second.state, second.reason) == (State.CANCELLED, Reason.UPSTREAM_SKIPPED)
    assert together.completed


def test_a_group_with_callbacks_is_stored_as_a_whole(site):
    together = with_callbacks(add.message(1), fail.message() | add.message(), told_of=[told, told])

    together.run(delay=None)

    assert site.states() == ["queued", "queued", "waiting", "waiting", "waiting"]
    assert site.work() == ["add", "fail", "told", "told"]
    assert site.states() == ["succeeded", "failed", "cancelled", "succeeded", "succeeded"]


def test_a_group_may_be_delayed_and_its_callbacks_wait_all_the_same(site):
    with_callbacks(add.message(1), add.message(2) | add.message()).run(delay=60_000)

    assert site.states() == ["scheduled", "scheduled", "waiting", "waiting"]


BAD = {
    "an argument": (lambda: add.message("x"), BadArguments),
    "an actor": (lambda: add.message(1).copy(actor_name="compositions-nobody"), UnknownActor),
    "an option": (lambda: add.message_with_options(args=(1,), max_retries=-1), BadOptions),
    "a step": (lambda: add.message(1) | add.message(1, 2), BadArguments),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("together", [with_callbacks, without_callbacks])
def test_nothing_of_a_group_is_stored_when_one_member_is_refused(site, bad, place, together):
    make, error = BAD[bad]
    children = [add.message(1), add.message(2)]
    children.insert(place, make())

    with pytest.raises(error):
        together(*children).run()

    assert site.views() == []
    with structlog.testing.capture_logs() as logs:
        with_callbacks(add.message(1)).run()
        with_callbacks(add.message(1)).run()
    assert site.states() == ["queued", "waiting"] * 2
    assert logs == []


def test_a_group_without_callbacks_is_one_batch(site):
    members = [add.message(1), add.message(2) | add.message(), group([add.message(3)])]

    together = group(members).run(delay=None)

    assert site.states() == ["queued", "queued", "waiting", "queued"]
    assert sorted(site.work()) == ["add"] * 4
    assert [child.get_result() for child in members[:2]] == [2, 4]
    assert together.children == members
    assert group([]).run().children == []


def test_a_group_without_callbacks_may_be_delayed(site):
    group([add.message(1), add.message(2) | add.message()]).run(delay=60_000)

    assert site.states() == ["scheduled", "scheduled", "waiting"]


def test_nothing_of_a_group_is_stored_when_the_ledger_has_one_of_its_members(site):
    before = add.message(1)
    broker().enqueue(before)

    with pytest.raises(BadOptions, match=before.message_id):
        group([add.message(2), before]).run()

    assert [view.id for view in site.views()] == [before.message_id]


def test_nothing_of_a_group_is_stored_when_a_member_has_a_queue_that_nobody_knows(site):
    with pytest.raises(dramatiq.QueueNotFound, match="compositions-no"):
        group([add.message(2), add.message(1).copy(queue_name="compositions-no")]).run()

    assert site.views() == []


def test_hooks_hear_of_every_member_of_a_group(site):
    heard = []

    class Ears(Middleware):
        def before_enqueue(self, broker, message, delay):
            heard.append(("before", message.args, delay))

        def after_enqueue(self, broker, message, delay):
            heard.append(("after", message.args, delay))

    ears = Ears()
    broker().add_middleware(ears)
    try:
        group([add.message(1), add.message(2)]).run(delay=1000)
    finally:
        broker().middleware.remove(ears)

    assert sorted(heard) == sorted(
        (when, (x,), 1000) for when in ("before", "after") for x in (1, 2)
    )


def test_groups_of_other_brokers_run_as_they_did():
    stub = dramatiq.brokers.stub.StubBroker()
    theirs = dramatiq.actor(add.fn, broker=stub, actor_name="compositions-theirs")

    group([theirs.message(1), theirs.message(2)], broker=stub).run()

    assert stub.queues["default"].qsize() == 2


def test_nothing_of_a_group_is_stored_when_a_callback_is_refused(site):
    together = with_callbacks(add.message(1))
    together.add_completion_callback(add.message("x"))

    with pytest.raises(BadArguments):
        together.run()

    assert site.views() == []


@pytest.mark.parametrize("bad", ["an argument", "an actor", "an option"])
def test_nothing_of_a_pipeline_is_stored_when_one_step_is_refused(site, bad):
    make, error = BAD[bad]

    with pytest.raises(error):
        (add.message(1) | make() | add.message()).run()

    assert site.views() == []


def test_a_run_that_broke_off_does_not_leak_into_the_next_one(site):
    with pytest.raises(NotImplementedError):
        with_callbacks(add.message(1), group([add.message(2)])).run()
    with pytest.raises(BadOptions, match="not running the group another"):
        add.send_with_options(args=(1,), group_completion_uuid="another")
    assert site.views() == []

    with structlog.testing.capture_logs() as logs:
        with_callbacks(add.message(3)).run()

    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["group.dropped"]
    assert [view.arguments for view in site.views()] == [{"x": 3}, {"word": "done"}]


def test_two_threads_run_two_groups_at_once(site):
    both = threading.Barrier(2, timeout=10)

    class Meeting(Middleware):
        def before_enqueue(self, broker, message, delay):
            if message.args == (7,):
                both.wait()

    meeting = Meeting()
    broker().add_middleware(meeting)
    try:
        threads = [
            threading.Thread(target=with_callbacks(add.message(7), add.message(7)).run)
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    finally:
        broker().middleware.remove(meeting)

    assert sorted(site.states()) == ["queued"] * 4 + ["waiting"] * 2
    assert len({view.group_id for view in site.views()} - {None}) == 2


def test_a_message_with_the_options_of_a_group_is_refused_on_its_own(site):
    options = {"group_completion_uuid": "g", "group_completion_callbacks": []}

    with pytest.raises(BadOptions, match="as a whole"):
        add.send_with_options(args=(1,), **options)
    with pytest.raises(BadOptions, match="as a whole"):
        broker().prepare(add.message_with_options(args=(1,), **options))

    assert site.views() == []


@pytest.mark.parametrize("kind", ["pipeline", "group", "member"])
def test_a_message_is_one_task_also_in_a_composition(site, kind):
    message = add.message(1)
    made = {
        "pipeline": lambda: pipeline([message, message]),
        "group": lambda: with_callbacks(message, message),
        "member": lambda: with_callbacks(message, add.message(2) | message),
    }

    with pytest.raises(BadOptions, match="twice"):
        made[kind]().run()

    assert site.views() == []


@pytest.mark.parametrize(
    "work",
    [add.message(1) | add.message(2), with_callbacks(add.message(1))],
    ids=["pipeline", "group"],
)
def test_running_it_again_is_refused_as_a_whole(site, work):
    work.run()
    before = site.views()

    with pytest.raises(BadOptions, match="already"):
        work.run()

    assert site.views() == before


@pytest.mark.parametrize("kind", ["pipeline", "group"])
def test_what_a_hook_runs_is_stored_with_the_outcome_under_ids_of_its_own(site, hooks, kind):
    make = {
        "pipeline": lambda: add.message(1) | add.message(2) | add.message(3),
        "group": lambda: with_callbacks(add.message(1), add.message(2) | add.message()),
    }
    work = make[kind]()
    parent = told.message("parent")
    hooks.after[parent.message_id] = work
    broker().enqueue(parent)
    delivery = next(site.consumer)
    site.run(delivery)

    planned = [task.id for task in delivery.follow_ups]
    before = len(site.views())
    site.consumer.ack(delivery)
    ran = site.work()

    assert before == 1
    assert planned == [delivery.follow_up_id(n - len(planned)) for n in range(len(planned))]
    assert [view.id for view in site.views()][1:] == planned
    assert ran == {"pipeline": ["add"] * 3, "group": ["add", "add", "add", "told"]}[kind]
    assert set(site.states()) == {"succeeded"}


def test_an_actor_that_runs_a_composition_stores_it_at_once(site):
    seen = []

    @dramatiq.actor(actor_name="compositions-parent", queue_name=QUEUE)
    def parent() -> None:
        (add.message(1) | add.message()).run()
        seen.extend(site.states())

    parent.send()
    site.work()

    assert seen == ["running", "queued", "waiting"]


def test_what_is_flushed_takes_its_steps_along(site):
    pipe = (add.message(1) | add.message()).run()

    broker().flush(QUEUE)

    assert site.states() == ["cancelled", "cancelled"]
    with pytest.raises(ResultFailure):
        pipe.get_result()
    with pytest.raises(ResultMissing):
        add.message(1).get_result()


@pytest.mark.parametrize("how", ["flush", "flush_all"])
def test_what_is_flushed_is_gone_with_the_callbacks_that_this_releases(site, how):
    elsewhere = add.message(2).copy(queue_name="compositions-later")
    broker().declare_queue("compositions-later")
    with_callbacks(add.message(1)).run()
    together = group([elsewhere])
    together.add_completion_callback(told.message("other"))
    together.run()

    broker().flush(QUEUE) if how == "flush" else broker().flush_all()

    left = ["queued", "waiting"] if how == "flush" else ["cancelled"] * 2
    assert site.states() == ["cancelled"] * 2 + left


def test_dramatiqs_own_middleware_beside_ours_runs_nothing_twice(site):
    stock = dramatiq.middleware.Pipelines()
    broker().add_middleware(stock)
    try:
        (add.message(1) | add.message()).run()
        assert site.work() == ["add", "add"]
    finally:
        broker().middleware.remove(stock)
    assert len(site.views()) == 2
