"""Whether a task that this code cannot run waits for other code, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postlude.policy import unfit

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_the_wait_doubles_from_a_second_to_a_minute():
    waits = [unfit.delay(refusals).total_seconds() for refusals in range(1, 9)]

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


@given(st.integers(min_value=0, max_value=10**9))
def test_no_number_of_refusals_makes_it_hot_or_endless(refusals):
    assert unfit.FIRST <= unfit.delay(refusals) <= unfit.LONGEST


@pytest.mark.parametrize(
    ("live", "refused", "may"),
    [
        ({"ours"}, set(), False),
        ({"ours", "theirs"}, set(), True),
        ({"ours", "theirs"}, {"ours"}, True),
        ({"ours", "theirs"}, {"theirs"}, False),
        ({"ours", "theirs", "others"}, {"theirs"}, True),
        (set(), set(), False),
    ],
)
def test_arguments_may_fit_a_live_version_that_has_not_refused_them(live, refused, may):
    assert unfit.may_fit(own="ours", live=live, refused=refused) is may


@pytest.mark.parametrize(
    ("refused_since", "known_until", "may"),
    [
        (NOW, None, True),
        (NOW - 9 * MINUTE, None, True),
        (NOW - 10 * MINUTE, None, False),
        (NOW - 99 * MINUTE, NOW, True),
        (NOW - 99 * MINUTE, NOW - 9 * MINUTE, True),
        (NOW - 99 * MINUTE, NOW - 10 * MINUTE, False),
        (NOW - 9 * MINUTE, NOW - 99 * MINUTE, True),
    ],
)
def test_a_worker_that_knows_the_actor_may_come_until_the_grace_is_over(
    refused_since, known_until, may
):
    grace = 10 * MINUTE

    assert (
        unfit.may_come(now=NOW, refused_since=refused_since, known_until=known_until, grace=grace)
        is may
    )


def test_without_grace_only_a_live_worker_is_waited_for():
    none = timedelta()

    assert unfit.may_come(now=NOW, refused_since=NOW, known_until=NOW, grace=none)
    assert not unfit.may_come(now=NOW, refused_since=NOW, known_until=None, grace=none)
