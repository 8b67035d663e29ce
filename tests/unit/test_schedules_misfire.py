"""What becomes of fire times that nobody was there for."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postlude.policy.misfire import AT_ONCE, LISTED, Misfire, plan
from postlude.schedules.trigger import Interval, Once

START = datetime(2026, 11, 2, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def minutes(count):
    return timedelta(minutes=count)


def decide(policy="latest", *, every="1m", late=timedelta(), window=DAY):
    """Plan for a schedule whose first unhandled fire time was ``late`` ago."""
    interval = {"1s": timedelta(seconds=1), "1m": minutes(1), "1d": DAY}[every]
    times = Interval(START, interval)
    return plan(times, first=START, now=START + late, policy=Misfire(policy), window=window)


@pytest.mark.parametrize("policy", Misfire)
def test_a_fire_time_that_is_a_little_late_is_run_by_every_policy(policy):
    decided = decide(policy, late=timedelta(seconds=9))

    assert decided.run == (START,)
    assert decided.skipped == ()
    assert decided.last == START


@pytest.mark.parametrize("policy", Misfire)
def test_a_short_hiccup_of_a_schedule_by_the_second_loses_nothing(policy):
    decided = decide(policy, every="1s", late=timedelta(seconds=7))

    assert decided.run == tuple(START + timedelta(seconds=number) for number in range(8))
    assert decided.skipped == ()


def test_latest_runs_the_last_missed_one_and_records_the_others():
    decided = decide(late=minutes(3) + timedelta(seconds=30))

    assert decided.run == (START + minutes(3),)
    assert [skip.at for skip in decided.skipped] == [START, START + minutes(1), START + minutes(2)]
    assert "misfire policy latest" in decided.skipped[0].reason
    assert decided.last == START + minutes(3)


def test_latest_runs_nothing_old_when_the_schedule_is_on_time_again():
    decided = decide(late=minutes(3))

    assert decided.run == (START + minutes(3),)
    assert len(decided.skipped) == 3


def test_latest_skips_what_is_older_than_the_window():
    decided = decide(every="1d", late=timedelta(hours=5), window=timedelta(hours=4))

    assert decided.run == ()
    assert [skip.at for skip in decided.skipped] == [START]
    assert "within 4h" in decided.skipped[0].reason
    assert decided.last == START


def test_a_nightly_schedule_that_was_missed_runs_in_the_morning():
    assert decide(every="1d", late=timedelta(hours=5)).run == (START,)


def test_skip_runs_none_of_the_missed_ones():
    decided = decide("skip", late=minutes(2) + timedelta(seconds=30))

    assert decided.run == ()
    assert [skip.at for skip in decided.skipped] == [START + minutes(number) for number in range(3)]
    assert decided.last == START + minutes(2)


def test_all_runs_each_missed_one_within_the_window():
    decided = decide("all", late=minutes(5) + timedelta(seconds=30), window=minutes(3))

    assert decided.run == tuple(START + minutes(number) for number in (3, 4, 5))
    assert [skip.at for skip in decided.skipped] == [START + minutes(number) for number in range(3)]


def test_all_makes_up_for_many_in_several_passes():
    decided = decide("all", every="1s", late=timedelta(hours=1))

    assert len(decided.run) == AT_ONCE
    assert decided.run[0] == START
    assert decided.last == decided.run[-1] == START + timedelta(seconds=AT_ONCE - 1)


@pytest.mark.parametrize("policy", ["latest", "skip"])
def test_a_year_of_missed_seconds_is_one_record_and_takes_no_time(policy):
    began = time.perf_counter()

    decided = decide(policy, every="1s", late=timedelta(days=365))

    assert time.perf_counter() - began < 0.5
    assert len(decided.skipped) == 1
    assert decided.skipped[0].at == START
    assert "stands for every fire time until 2027-11-02T02:59:4" in decided.skipped[0].reason
    assert decided.last == START + timedelta(days=365)


def test_a_fire_time_that_the_trigger_no_longer_knows_is_dealt_with_all_the_same():
    odd = START + timedelta(seconds=17)

    for late in (timedelta(), minutes(5)):
        decided = plan(
            Interval(START, DAY), first=odd, now=odd + late, policy=Misfire.LATEST, window=DAY
        )

        assert decided.run == (odd,)


def test_a_single_time_that_was_missed_is_run_late():
    times = Once(START)

    decided = plan(times, first=START, now=START + minutes(9), policy=Misfire.LATEST, window=DAY)

    assert decided.run == (START,)


@given(
    policy=st.sampled_from(Misfire),
    late=st.integers(0, 4 * LISTED),
    window=st.integers(0, 4 * LISTED),
    odd=st.integers(0, 59),
)
def test_each_fire_time_is_dealt_with_once_and_in_order(policy, late, window, odd):
    now = START + minutes(late) + timedelta(seconds=odd)

    decided = decide(policy, late=now - START, window=minutes(window))

    handled = sorted([*decided.run, *(skip.at for skip in decided.skipped)])
    due = [START + minutes(number) for number in range(late + 1)]
    assert decided.last == due[-1]
    if len(decided.skipped) == 1 and "stands for" in decided.skipped[0].reason:
        assert handled == [START, *due[len(due) - len(decided.run) :]]
    else:
        assert handled == due
