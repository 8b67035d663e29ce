"""When a process counts as dead: its heartbeat has stood still for the lease, as one observer saw it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from postlude.policy.silence import Watch


def test_nobody_is_dead_at_first_sight():
    assert Watch(5).silent({"a": 7, "b": 0}, 1e9) == set()


def test_a_heart_that_stands_still_for_the_lease_is_silent():
    watch = Watch(5)
    for second in range(6):
        assert watch.silent({"a": 1}, second) == set()

    assert watch.silent({"a": 1}, 5.001) == {"a"}


def test_only_the_one_that_is_silent_is_dead():
    watch = Watch(2)
    for second in range(4):
        found = watch.silent({"still": 1, "beating": second}, second)

    assert found == {"still"}


def test_one_beat_starts_the_lease_anew():
    watch = Watch(5)
    watch.silent({"a": 1}, 0)
    watch.silent({"a": 1}, 4)
    watch.silent({"a": 2}, 5)

    assert watch.silent({"a": 2}, 10) == set()
    assert watch.silent({"a": 2}, 10.1) == {"a"}


def test_a_counter_that_goes_back_is_a_sign_of_life_too():
    watch = Watch(5)
    watch.silent({"a": 100}, 0)

    assert watch.silent({"a": 3}, 6) == set()


def test_whoever_left_is_forgotten():
    watch = Watch(5)
    watch.silent({"a": 1}, 0)
    watch.silent({}, 1)

    assert watch.silent({"a": 1}, 7) == set()


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=30))
def test_whoever_beats_between_any_two_looks_is_never_dead(pauses):
    watch, now = Watch(5), 0.0
    for beat, pause in enumerate(pauses):
        now += pause
        assert watch.silent({"a": beat}, now) == set()


@given(st.lists(st.floats(0.01, 3), min_size=1, max_size=30))
def test_nobody_is_dead_before_the_lease_is_over(pauses):
    watch, now = Watch(5), 0.0
    watch.silent({"a": 1}, now)
    for pause in pauses:
        now += pause
        assert watch.silent({"a": 1}, now) == ({"a"} if now > 5 else set())
