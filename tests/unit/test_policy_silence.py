"""When a process counts as dead: its heartbeat has stood still for the lease, as one observer saw it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from postlude.policy.silence import Watch


def watcher() -> Watch:
    """Return an observer with a lease of 5 seconds that looks at least every 2.5."""
    return Watch(5, blink_s=2.5)


def test_nobody_is_dead_at_first_sight():
    assert watcher().silent({"a": 7, "b": 0}, 1e9) == set()


def test_a_heart_that_stands_still_for_the_lease_is_silent():
    watch = watcher()
    for second in range(6):
        assert watch.silent({"a": 1}, second) == set()

    assert watch.silent({"a": 1}, 5.001) == {"a"}


def test_only_the_one_that_is_silent_is_dead():
    watch = watcher()
    for second in range(7):
        found = watch.silent({"still": 1, "beating": second}, second)

    assert found == {"still"}


def test_one_beat_starts_the_lease_anew():
    watch = watcher()
    for second in range(5):
        watch.silent({"a": 1}, second)
    for second in range(5, 11):
        assert watch.silent({"a": 2}, second) == set()

    assert watch.silent({"a": 2}, 10.1) == {"a"}


def test_a_counter_that_goes_back_is_a_sign_of_life_too():
    watch = watcher()
    for second in range(5):
        watch.silent({"a": 100}, second)

    assert watch.silent({"a": 3}, 6) == set()


def test_whoever_left_is_forgotten():
    watch = watcher()
    for second in range(5):
        watch.silent({"a": 1}, second)
    watch.silent({}, 5)

    assert watch.silent({"a": 1}, 7) == set()


def test_an_observer_that_slept_itself_has_seen_nobodys_silence():
    watch = watcher()
    watch.silent({"a": 1, "b": 1}, 0)
    assert watch.silent({"a": 1, "b": 1}, 3600) == set()
    assert watch.silent({"a": 1, "b": 2}, 3602) == set()

    assert watch.silent({"a": 1, "b": 2}, 3604) == {"a"}


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30))
def test_whoever_beats_between_any_two_looks_is_never_dead(pauses):
    watch, now = watcher(), 0.0
    for beat, pause in enumerate(pauses):
        now += pause
        assert watch.silent({"a": beat}, now) == set()


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30))
def test_whoever_is_still_is_dead_once_that_was_observed_for_the_lease_and_not_before(pauses):
    watch, now, observed = watcher(), 0.0, 0.0
    watch.silent({"a": 1}, now)
    for pause in pauses:
        now += pause
        observed += min(pause, 2.5)
        if abs(observed - 5) > 1e-6:
            assert watch.silent({"a": 1}, now) == ({"a"} if observed > 5 else set())
        else:
            watch.silent({"a": 1}, now)


def test_an_observer_who_is_not_heard_either_believes_in_nobodys_silence():
    watch = Watch(lease_s=5, blink_s=2)
    for second in range(20):
        assert watch.silent({"a": 1}, float(second), deaf=True) == set()

    assert watch.silent({"a": 1}, 20.0) == set()
    assert {"a"} == [watch.silent({"a": 1}, 20.0 + second) for second in range(1, 7)][-1]
