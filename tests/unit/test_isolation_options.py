"""Options that make no sense are refused where the actor is declared; sizes are read as people write them."""

from __future__ import annotations

from importlib import import_module

import dramatiq
import pytest

import postlude  # noqa: F401 # sets the broker
from postlude.errors import BadOptions
from postlude.isolation.home import home_of
from postlude.isolation.options import is_isolated, memory_limit
from postlude.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"isolation": "thread"}, "isolation must be 'process' or None, not 'thread'"),
        ({"isolation": True}, "isolation must be 'process' or None, not True"),
        ({"isolation": ""}, "isolation must be 'process' or None, not ''"),
        ({"memory_limit": "1GiB"}, "memory_limit needs isolation='process'"),
        ({"memory_limit": 2**30, "isolation": None}, "memory_limit needs isolation='process'"),
        ({"isolation": "process", "memory_limit": "lots"}, "memory_limit: 'lots' is not a size"),
        ({"isolation": "process", "memory_limit": 0}, "memory_limit: 0 is out of range"),
        ({"isolation": "process", "memory_limit": 1.5}, "memory_limit: 1.5 is not a size"),
    ],
)
def test_an_actor_with_bad_options_is_not_declared(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        dramatiq.actor(actor_name="test-options-bad", **options)(lambda: None)

    assert isinstance(caught.value, BadOptions)
    assert "test-options-bad" in str(caught.value)
    assert "test-options-bad" not in dramatiq.get_broker().get_declared_actors()


def test_good_options_are_taken_in_either_form():
    @dramatiq.actor(actor_name="test-options-good", isolation="process", memory_limit="1.5GiB")
    def good() -> None:
        """Never runs."""

    @dramatiq.actor(actor_name="test-options-plain", isolation=None)
    def plain() -> None:
        """Never runs."""

    assert (is_isolated(good), memory_limit(good)) == (True, 3 * 2**29)
    assert (is_isolated(plain), memory_limit(plain)) == (False, None)
    for actor in ("test-options-good", "test-options-plain"):
        del dramatiq.get_broker().actors[actor]


MAKER = """
import dramatiq, postlude, shlex

def make(name):
    return dramatiq.actor(actor_name=name)(shlex.quote)
"""
TAKER = """
from home_maker import make

actor = make("test-options-home")
later = lambda: make("test-options-later")
"""


def test_an_actor_is_at_home_where_it_is_declared_whoever_wrote_its_function(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "home_maker.py").write_text(MAKER)
    (tmp_path / "home_taker.py").write_text(TAKER)
    taker = import_module("home_taker")

    assert home_of(taker.actor) == "home_taker"
    # Whatever runs the tests is the module that is running now; the program itself has no name.
    assert home_of(taker.later()) in {"shlex", "__channelexec__"}
    for actor in ("test-options-home", "test-options-later"):
        del dramatiq.get_broker().actors[actor]


@pytest.mark.parametrize("name", ["isolation", "memory_limit"])
def test_a_task_cannot_ask_for_what_its_actor_does_not(name):
    from postlude.broker.options import check

    with pytest.raises(BadOptions, match=f"{name} must be set where the actor is declared"):
        check("a", {name: "process"}, [])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("200 MB", 200_000_000),
        ("64kib", 65_536),
        ("1KB", 1000),
        ("7B", 7),
        ("12", 12),
        (12, 12),
    ],
    ids=repr,
)
def test_a_size_is_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "MiB", "-1", -1, 0, "0MiB", "1 TiB", "1e3", "1,5GiB", None, True, 1.0, [1], "9" * 99],
    ids=repr,
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a size|is out of range"):
        parse_size(text)


@pytest.mark.parametrize(("size", "text"), [(1, "1 MiB"), (2**20, "1 MiB"), (2**20 + 1, "2 MiB")])
def test_a_size_is_written_in_mebibytes_rounded_up(size, text):
    assert format_size(size) == text
