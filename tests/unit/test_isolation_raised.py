"""Exceptions that travel between processes arrive as what they were, whatever their code does."""

from __future__ import annotations

import json

import dramatiq
import pytest
from dramatiq.middleware import Shutdown, TimeLimitExceeded

from postlude.errors import BadArguments, LedgerBusy
from postlude.isolation.raised import Elsewhere, describe, rebuild


class WithFields(Exception):
    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(code)
        self.code, self.why, self.tool = code, why, object()

    def __str__(self) -> str:
        return f"{self.why}: {self.code}"


class NeedsTool(WithFields):
    def __str__(self) -> str:
        return f"made by {self.tool.name}"


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class NoChildren(Exception):
    def __init_subclass__(cls) -> None:
        raise TypeError

    def __str__(self) -> str:
        return f"{self.args} {id(self)}"


class Strict(Exception):
    def __new__(cls, one: object, two: object):
        return super().__new__(cls, one, two)


def travel(error: BaseException) -> BaseException:
    """Raise, describe, send as JSON, and rebuild."""
    try:
        raise error  # noqa: TRY301 # so that it has a traceback
    except BaseException as raised:  # noqa: BLE001 # that is what is caught there
        return rebuild(json.loads(json.dumps(describe(raised))))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong"),
        KeyError("name"),
        OSError(2, "No such file", "/there"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        SystemExit(3),
        Shutdown("stop"),
        TimeLimitExceeded(),
        BadArguments("no", ({"pointer": "/x", "detail": "y"},)),
        LedgerBusy("full"),
        WithFields(7, why="heavy"),
        ValueError("half \ud800 a character"),
    ],
    ids=repr,
)
def test_class_and_words_arrive(error):
    arrived = travel(error)

    assert (str(arrived), type(arrived).__qualname__) == (str(error), type(error).__qualname__)
    assert isinstance(arrived, type(error))


@pytest.mark.parametrize(
    "error", [ExceptionGroup("two", [ValueError(1)]), Strict({1}, 2)], ids=["group", "strict"]
)
def test_one_whose_arguments_cannot_travel_arrives_under_its_name(error):
    arrived = travel(error)

    assert (str(arrived), type(arrived).__qualname__) == (str(error), type(error).__qualname__)
    assert isinstance(arrived, Exception)


def test_attributes_arrive_without_running_init():
    arrived = travel(WithFields(7, why="heavy"))

    assert (type(arrived), arrived.code, arrived.why, arrived.args) == (
        WithFields,
        7,
        "heavy",
        (7,),
    )
    assert travel(dramatiq.Retry("later", delay=400)).delay == 400


def test_words_that_cannot_be_had_again_are_kept():
    error = NeedsTool(7, why="heavy")
    error.tool = type("Tool", (), {"name": "hammer"})()

    arrived = travel(error)

    assert (str(arrived), isinstance(arrived, NeedsTool)) == ("made by hammer", True)


def test_one_that_cannot_say_what_it_is_arrives_all_the_same():
    error = Mute()

    assert describe(error)["words"] == "<Mute whose text cannot be had: RuntimeError>"
    assert type(travel(error)) is Mute


def test_a_class_that_refuses_is_stood_in_for_by_its_base():
    arrived = travel(NoChildren("x"))

    assert type(arrived).__name__ == "NoChildren"
    assert isinstance(arrived, Exception)


def test_a_class_that_is_not_loaded_here_is_not_imported():
    frame = describe(OSError("gone"))
    frame["kinds"] = [["somewhere.else", "Gone"], *frame["kinds"]]

    arrived = rebuild(frame)

    assert (type(arrived).__module__, type(arrived).__name__) == ("somewhere.else", "Gone")
    assert isinstance(arrived, OSError)
    assert str(arrived) == "gone"


def test_something_else_of_that_name_is_not_taken_for_it():
    frame = describe(ValueError("x"))
    frame["kinds"] = [["json", "dumps"], *frame["kinds"]]

    assert isinstance(rebuild(frame), ValueError)


def test_its_cause_is_where_it_happened():
    cause = travel(ValueError("wrong")).__cause__

    assert isinstance(cause, Elsewhere)
    assert "raise error" in str(cause)
    assert "ValueError: wrong" in str(cause)
