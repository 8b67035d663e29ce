"""A task's options are checked where the task is added."""

from __future__ import annotations

import pytest

from postlude.broker.options import check
from postlude.errors import BadOptions


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_retries", -1),
        ("max_retries", "3"),
        ("max_retries", True),
        ("min_backoff", "x"),
        ("max_backoff", None),
        ("time_limit", 0),
        ("time_limit", "x"),
        pytest.param("time_limit", 10**400, id="time_limit-huge"),
        pytest.param("min_backoff", 10**400, id="min_backoff-huge"),
        ("max_age", 1e300),
        ("max_age", -5),
        ("priority", True),
        ("priority", 2**31),
        ("notify_shutdown", "yes"),
        ("throws", "ValueError"),
        ("on_success", "nobody"),
        ("on_retry_exhausted", "nobody"),
        ("pipe_target", {}),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(name, value):
    with pytest.raises(BadOptions, match=rf"mail: .*{name}"):
        check("mail", {name: value}, {"mail"})


@pytest.mark.parametrize(
    "options",
    [
        {
            "max_retries": None,
            "min_backoff": 0,
            "max_backoff": 1.5,
            "time_limit": 1,
            "max_age": None,
        },
        {"on_success": "mail", "on_failure": None, "priority": -5, "store_results": False},
        {"of_another_middleware": object()},
    ],
)
def test_what_makes_sense_or_is_for_others_is_let_in(options):
    check("mail", options, {"mail"})
