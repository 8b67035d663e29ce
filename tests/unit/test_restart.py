"""When a child that died is started again."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from postlude.policy import restart

SECOND = timedelta(seconds=1)


def test_delays_double_from_half_a_second_to_half_a_minute():
    delays = [restart.delay(deaths).total_seconds() for deaths in range(1, 10)]

    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


@given(st.integers(min_value=0, max_value=10**9))
def test_no_number_of_deaths_leaves_the_range(deaths):
    assert restart.FIRST <= restart.delay(deaths) <= restart.LONGEST


def test_a_child_that_lived_a_minute_is_forgiven():
    assert restart.deaths_in_a_row(7, 60 * SECOND) == 1
    assert restart.deaths_in_a_row(7, 59 * SECOND) == 8


def test_what_is_outgrown_is_not_tried_again_soon_however_short_its_role_is_missed():
    two = timedelta(seconds=2)

    assert restart.delay(1, two, code=restart.OUTGROWN) == restart.LONGEST
    assert restart.delay(1, two, code=1) == restart.FIRST
