"""How many tasks a worker takes: what it can finish in about 100 ms, and its idle threads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postlude.policy.claim import HORIZON_S, LARGEST, Pace, budget, target

THREADS = st.integers(1, 1024)
RATES = st.floats(0, 1e6)
HELD = st.integers(0, 2000)


@given(threads=THREADS, rate=RATES, held=HELD)
def test_a_worker_never_has_more_than_its_threads_and_a_tenth_of_a_second(threads, rate, held):
    taken = budget(threads=threads, rate=rate, held=held)

    assert taken >= 0
    assert held + taken <= max(held, threads + rate * HORIZON_S)
    assert taken <= threads + LARGEST


@given(threads=THREADS, rate=RATES, held=HELD)
def test_an_idle_thread_always_gets_a_task(threads, rate, held):
    taken = budget(threads=threads, rate=rate, held=held)

    assert (taken > 0) if held < threads else (taken >= 0)


@given(threads=THREADS, rate=RATES, held=HELD)
def test_a_claim_that_no_thread_waits_for_is_worth_its_transaction(threads, rate, held):
    taken = budget(threads=threads, rate=rate, held=held)

    if taken and held >= threads:
        assert taken >= target(threads=threads, rate=rate) // 2


@pytest.mark.parametrize(
    ("rate", "wanted"), [(0.0, 8), (8.0, 8), (100.0, 18), (1000.0, 108), (1e6, 8 + LARGEST)]
)
def test_slow_tasks_are_not_claimed_ahead_and_fast_ones_are(rate, wanted):
    assert target(threads=8, rate=rate) == wanted
    assert budget(threads=8, rate=rate, held=0) == wanted


def pace_after(*seconds: tuple[float, int]) -> float:
    """Return the rate after so many tasks finished in each span."""
    pace, now, rate = Pace(), 1000.0, 0.0
    pace.at(now)
    for span, count in seconds:
        for _ in range(count):
            pace.finished()
        now += span
        rate = pace.at(now)
    return rate


def test_a_worker_that_has_finished_nothing_has_no_pace():
    assert Pace().at(12345.0) == 0.0


def test_a_steady_pace_is_measured():
    assert pace_after(*[(0.1, 50)] * 20) == pytest.approx(500, rel=0.02)


def test_a_burst_is_forgotten_within_two_seconds():
    burst = [(0.1, 500)] * 10

    assert pace_after(*burst, *[(0.1, 0)] * 20) < 5000 * 0.02


def test_a_long_pause_forgets_everything_before_it():
    assert pace_after(*[(0.1, 500)] * 10, (60.0, 6)) == pytest.approx(0.1)


def test_asking_often_does_not_change_the_answer():
    pace = Pace()
    pace.at(1000.0)
    for _ in range(100):
        pace.finished()
    rate = pace.at(1000.1)
    pace.finished()

    assert {pace.at(1000.1 + n * HORIZON_S / 100) for n in range(40)} == {rate}


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 50)), max_size=30))
def test_a_pace_is_never_negative_and_never_above_the_fastest_stretch(stretches):
    rate = pace_after(*stretches)

    counted = sum(count for _, count in stretches)
    assert 0 <= rate <= counted / (HORIZON_S / 2)
