"""Who hangs, and who only waits for somebody else."""

from __future__ import annotations

from datetime import timedelta

from postlude.policy.hanging import Limits, Sign, Vitals, observe, verdict

SECOND = timedelta(seconds=1)
LIMITS = Limits(lease=5 * SECOND, boot=60 * SECOND)
FINE = Sign(stopped=False, beat=True, somebody_beat=True)
SILENT = Sign(stopped=False, beat=False, somebody_beat=True)
ALL_SILENT = Sign(stopped=False, beat=False, somebody_beat=False)
LEFT = Sign(stopped=False, beat=False, somebody_beat=True, left=True)
BEREFT = Sign(stopped=False, beat=False, somebody_beat=False, bereft=True)
STOPPED = Sign(stopped=True, beat=False, somebody_beat=False)


def after(*signs, every=SECOND, vitals=None):
    vitals = vitals or Vitals()
    for sign in signs:
        vitals = observe(vitals, sign, every)
    return vitals


def test_a_beating_child_is_left_alone():
    assert verdict(after(*[FINE] * 100), LIMITS) is None


def test_silence_longer_than_the_lease_is_fatal():
    assert verdict(after(FINE, *[SILENT] * 5), LIMITS) is None
    assert verdict(after(FINE, *[SILENT] * 6), LIMITS) == "it was silent for 6.0 s"


def test_one_beat_ends_the_silence():
    assert verdict(after(FINE, *[SILENT] * 5, FINE, *[SILENT] * 5), LIMITS) is None


def test_nobody_is_blamed_while_nobody_beats():
    assert verdict(after(FINE, *[ALL_SILENT] * 100), LIMITS) is None


def test_those_who_waited_for_a_common_silence_to_end_get_a_lease_of_their_own():
    waited = after(FINE, *[ALL_SILENT] * 100)

    assert verdict(after(*[SILENT] * 5, vitals=waited), LIMITS) is None
    assert verdict(after(*[SILENT] * 6, vitals=waited), LIMITS) is not None


def test_a_stopped_child_is_fatal_even_while_nobody_beats():
    assert verdict(after(FINE, *[STOPPED] * 5), LIMITS) is None
    assert verdict(after(FINE, *[STOPPED] * 6), LIMITS) == "it was stopped for 6.0 s"


def test_a_child_that_was_continued_is_forgiven():
    assert verdict(after(FINE, *[STOPPED] * 5, ALL_SILENT, *[STOPPED] * 5), LIMITS) is None


def test_a_child_that_boots_gets_longer_than_the_lease():
    assert verdict(after(*[SILENT] * 60), LIMITS) is None
    assert "had not reported" in verdict(after(*[SILENT] * 61), LIMITS)


def test_a_successor_of_one_that_left_in_order_gets_as_long_as_at_the_start():
    assert verdict(after(FINE, LEFT, *[SILENT] * 59), LIMITS) is None
    assert "had not reported" in verdict(after(FINE, LEFT, *[SILENT] * 60), LIMITS)


def test_a_successor_that_has_reported_gets_the_lease_alone():
    assert "was silent" in verdict(after(FINE, LEFT, FINE, *[SILENT] * 6), LIMITS)


def test_an_observer_that_slept_blames_nobody_for_it():
    slept = observe(after(FINE), SILENT, timedelta(hours=1))

    assert verdict(slept, LIMITS) is None


def test_who_waits_for_a_process_that_is_dead_waits_in_vain():
    in_vain = verdict(after(*[BEREFT] * 2), LIMITS)

    assert in_vain == "the process that it waits for died 2.0 s ago, while it started"
    assert verdict(after(BEREFT, SILENT, BEREFT), LIMITS) is None
    assert verdict(after(FINE, *[BEREFT] * 100), LIMITS) is None
