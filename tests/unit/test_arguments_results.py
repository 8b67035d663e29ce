"""What actors return: JSON for people and for get_result(), or a clear word why not."""

import dataclasses
import datetime as dt
import enum
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from postlude.arguments.limits import DEPTH_LIMIT, DIGITS_LIMIT
from postlude.arguments.results import decode_result, encode_result, jsonable
from postlude.errors import BadResult, PostludeError

NAN = float("nan")
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


class Colour(enum.Enum):
    RED = "red"


class Reading(BaseModel):
    value: float | None = None
    name: str = ""


@dataclasses.dataclass
class Point:
    x: float


def nested(levels):
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def loop():
    value: list[Any] = []
    value += [value, value]
    return value


def produce():
    yield 1


async def coroutine(): ...


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text().filter(lambda text: "\0" not in text),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner),
        max_leaves=10,
    )
)
@settings(deadline=None)
def test_a_json_value_comes_back_as_it_was(value):
    assert json.dumps(decode_result(encode_result(value))) == json.dumps(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (MOMENT, "2026-01-02T03:04:05Z"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.50"), "1.50"),
        (Colour.RED, "red"),
        (Point(1.5), {"x": 1.5}),
        (Reading(name="a"), {"value": None, "name": "a"}),
        ({1, 2}, [1, 2]),
        ((1, [None]), [1, [None]]),
        (b"\xff", "_w=="),
        ({"at": [MOMENT]}, {"at": ["2026-01-02T03:04:05Z"]}),
        ("NaN, null and Infinity", "NaN, null and Infinity"),
    ],
)
def test_the_types_of_arguments_have_the_same_form_as_results(value, expected):
    assert decode_result(encode_result(value)) == expected
    assert jsonable(value) == expected


REFUSED = {
    "nan": (NAN, "NaN and Infinity"),
    "infinity": ([1, {"a": float("inf")}], "at /1/a: NaN and Infinity"),
    "decimal": ([Decimal("NaN")], "at /0: NaN and Infinity"),
    "model": (Reading(value=NAN), "at /value: NaN and Infinity"),
    "dataclass": ([Point(NAN)], "at /0/x: NaN and Infinity"),
    "nul": ({"a": "\0"}, "at /a: the character NUL"),
    "nul key": ({"a\0": 1}, "the character NUL"),
    "surrogate": (["\ud800"], "at /0: it contains half a character"),
    "surrogate in a model": (Reading(name="\ud800"), "at /name: it contains half a character"),
    "depth": (nested(DEPTH_LIMIT + 1), f"more than {DEPTH_LIMIT} levels"),
    "great depth": (nested(2000), "depth"),
    "loop": (loop(), "Circular reference"),
    "digits": ([10**DIGITS_LIMIT], f"at /0: a whole number of more than {DIGITS_LIMIT} digits"),
    "object": (object(), "Unable to serialize unknown type"),
    "function": ({"a": print}, "Unable to serialize unknown type"),
    "exception": (ValueError("x"), "Unable to serialize unknown type"),
    "generator": (produce(), "it is a generator: the actor contains a yield"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_stored_is_refused_in_a_few_words(name):
    value, words = REFUSED[name]

    with pytest.raises(BadResult) as caught:
        encode_result(value)

    assert words in str(caught.value)
    assert len(str(caught.value)) < 500
    assert str(caught.value).encode()
    assert isinstance(caught.value, PostludeError)
    assert isinstance(caught.value, ValueError)


def test_a_coroutine_that_nobody_awaited_is_refused():
    result = coroutine()

    with pytest.raises(BadResult, match="unknown type"):
        encode_result(result)

    result.close()


def test_a_result_over_the_limit_is_refused_with_both_sizes():
    assert encode_result("é" * 10, 22) == '"éééééééééé"'

    with pytest.raises(BadResult, match="23 bytes of JSON are over the limit of 22"):
        encode_result("é" * 10 + "!", 22)


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "x"])
def test_text_that_is_no_json_is_refused(text):
    with pytest.raises(BadResult):
        decode_result(text)
