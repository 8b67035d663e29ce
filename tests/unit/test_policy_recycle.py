"""When a worker process makes room for a new one, and that siblings do not do so together."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from postlude.policy.recycle import Limits, Wear, is_futile, staggered, verdict

MIB = 1024**2


def test_without_limits_a_process_lives_on():
    assert verdict(Limits(), Wear(tasks=10**9, rss=10**12, rss_at_start=80 * MIB)) is None


def test_the_last_task_is_one_too_many_or_none():
    limits = Limits(tasks=1000)

    assert verdict(limits, Wear(999, 80 * MIB, 80 * MIB)) is None
    assert verdict(limits, Wear(1000, 80 * MIB, 80 * MIB)) == "it has run 1000 tasks"


def test_memory_counts_from_the_limit_on():
    limits = Limits(rss=300 * MIB)

    assert verdict(limits, Wear(1, 300 * MIB - 1, 80 * MIB)) is None
    assert verdict(limits, Wear(1, 300 * MIB, 80 * MIB)) == "it holds 314572800 bytes of memory"


def test_a_limit_that_no_new_process_would_keep_replaces_nothing():
    limits, wear = Limits(rss=50 * MIB), Wear(1, 90 * MIB, 80 * MIB)

    assert is_futile(limits, wear)
    assert verdict(limits, wear) is None
    assert verdict(Limits(tasks=1, rss=50 * MIB), wear) == "it has run 1 tasks"


@given(st.integers(min_value=0, max_value=10**6), st.uuids())
def test_the_limit_of_one_incarnation_is_at_most_a_tenth_lower_and_always_the_same(most, id_):
    limits = staggered(Limits(tasks=most, rss=7), str(id_))

    assert most - most // 10 <= limits.tasks <= most
    assert limits.rss == 7
    assert limits == staggered(Limits(tasks=most, rss=7), str(id_))


def test_siblings_have_different_limits():
    siblings = {staggered(Limits(tasks=1000), str(uuid.UUID(int=n))).tasks for n in range(8)}

    assert len(siblings) > 4
