"""Who is called at a hook: everybody who has something to do there, whenever he came, and nobody else."""

from __future__ import annotations

from typing import Any

from dramatiq.middleware import Middleware

from postlude.broker.hooks import Hooks
from postlude.middleware.base import TaskMiddleware


class Idle(Middleware):
    """Overrides nothing."""


class Acker(Middleware):
    """Overrides one hook."""

    def before_ack(self, broker: Any, message: Any) -> None:
        """Do nothing."""


class Follower(TaskMiddleware):
    """Overrides one of ours, by our name for it."""

    def ended(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


def test_only_those_are_found_that_override_the_hook() -> None:
    idle, acker, follower = Idle(), Acker(), Follower()
    hooks, everybody = Hooks(), [idle, acker, follower]
    assert hooks.of(everybody, "before_ack") == (acker,)
    assert hooks.of(everybody, "after_process_message") == (follower,)
    assert hooks.of(everybody, "before_process_message") == ()


def test_before_hooks_go_from_first_to_last_and_after_hooks_from_last_to_first() -> None:
    first, last = Follower(), Follower()
    one, other = Acker(), Acker()
    assert Hooks().of([first, last], "after_process_message") == (last, first)
    assert Hooks().of([one, other], "before_ack") == (one, other)


def test_a_list_that_was_changed_is_noticed() -> None:
    acker, later = Acker(), Acker()
    hooks, everybody = Hooks(), [acker]
    assert hooks.of(everybody, "before_ack") == (acker,)
    everybody.append(later)
    assert hooks.of(everybody, "before_ack") == (acker, later)
    everybody.remove(acker)
    assert hooks.of(everybody, "before_ack") == (later,)


def test_a_hook_that_an_object_got_after_it_was_made_counts() -> None:
    idle = Idle()
    idle.before_ack = print  # type: ignore[method-assign, assignment]
    assert Hooks().of([idle], "before_ack") == (idle,)


def test_a_hook_that_dramatiq_does_not_know_is_asked_of_everybody() -> None:
    idle = Idle()
    assert Hooks().of([idle], "before_something_new") == (idle,)
