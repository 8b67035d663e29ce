"""The judge's own arithmetic: which seconds count."""

from __future__ import annotations

from hours import SECOND, Freeze, Hours, Shift, union, without


def life(began, ended, pid=1):
    return Shift(pid, began * SECOND, ended * SECOND)


def freeze(began, ended, pid=1, *, locks=False):
    return Freeze(frozenset([pid]), began * SECOND, locks, ended * SECOND)


def counted(hours, began, ended):
    return hours.between(began * SECOND, ended * SECOND)


def test_spans_that_touch_are_one_and_holes_are_cut_out():
    assert union([(5, 6), (1, 3), (2, 4), (4, 4)]) == [(1, 4), (5, 6)]
    assert without([(0, 10), (20, 30)], [(2, 3), (8, 22), (25, 40)]) == [(0, 2), (3, 8), (22, 25)]


def test_seconds_in_which_nobody_lives_do_not_count():
    hours = Hours([life(0, 10), life(5, 12, pid=2), life(20, 30, pid=3)], [])

    assert counted(hours, 0, 100) == 22
    assert counted(hours, 11, 21) == 2


def test_who_is_frozen_does_not_count_and_the_others_do():
    lives = [life(0, 10), life(4, 6, pid=2)]

    assert counted(Hours(lives, [freeze(2, 8)]), 0, 10) == 6


def test_while_somebody_frozen_has_the_lock_nobody_counts():
    hours = Hours([life(0, 10)], [freeze(2, 8, pid=7, locks=True)])

    assert counted(hours, 0, 10) == 4
