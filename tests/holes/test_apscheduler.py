"""Holes of APScheduler 3, whose triggers and loop we use. Ours is proven by the tests of schedules."""

from __future__ import annotations

import pytest


@pytest.fixture
def play(theatre):
    """Plays a scenario in a folder of its own and returns what it has observed."""
    return lambda scenario: theatre.one("scenes_apscheduler.py", scenario, str(theatre.folder))


def test_an_error_of_the_job_store_ends_the_loop_in_silence(play):
    assert play("the_job_store_is_locked") == {"says_it_runs": True, "fires": False}


def test_a_job_whose_module_is_gone_is_deleted(play):
    assert play("the_module_of_a_job_is_gone") == {"before": 1, "after": 0}


def test_two_seconds_late_is_never(play):
    assert play("the_scheduler_is_late") == {"fired": 0, "left": 0}


def test_a_nightly_job_fires_twice_when_the_clocks_are_set_back(play):
    assert play("the_clocks_are_set_back") == {"fires": 2}


def test_a_crontabs_sunday_is_monday(play):
    assert play("a_line_of_a_crontab_names_a_weekday") == {"day": "Monday"}


def test_each_deploy_begins_an_interval_anew(play):
    assert play("the_same_job_is_deployed_again") == {"begins_anew": True}


def test_two_schedulers_fire_twice_and_one_of_them_dies(play):
    observed = play("two_schedulers_share_a_store")

    assert observed == {"fired": 2, "say_they_run": [True, True], "dead": 1}
