"""What cannot be stored or read back stops at the door, quickly, in few words that repeat nothing."""

import dataclasses
import json
import sys
import time
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any

import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType, TypedDict

from postlude.arguments import Signature
from postlude.arguments.limits import DEPTH_LIMIT, DIGITS_LIMIT
from postlude.arguments.text import flaw_of
from postlude.errors import BadArguments

NAN, INFINITY = float("nan"), float("inf")
LONG = 10**DIGITS_LIMIT


class Reading(BaseModel):
    value: float | None = 0.0
    amount: Annotated[Decimal, Field(allow_inf_nan=True)] = Decimal(0)
    name: str = ""
    raw: bytes = b""


@dataclasses.dataclass
class Point:
    x: float
    name: str = ""


class Row(TypedDict):
    x: float


Tree = TypeAliasType("Tree", "list[Tree]")


def nested(levels):
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def signature_for(hint):
    def actor(value): ...

    actor.__annotations__ = {"value": hint}
    return Signature.of(actor, "actor")


def refused(hint, value):
    with pytest.raises(BadArguments) as caught:
        signature_for(hint).encode((value,), {})
    words, errors = str(caught.value), caught.value.errors
    assert len(words) < 2000
    assert json.dumps(errors, ensure_ascii=False).encode(), "errors go out over HTTP"
    return words, errors[0]["pointer"]


@pytest.mark.parametrize(
    ("hint", "value", "pointer"),
    [
        (Any, NAN, "/value"),
        (Any, {"a": [1, (-INFINITY,)]}, "/value/a/1/0"),
        (float, NAN, "/value"),
        (float, "Infinity", "/value"),
        (dict[str, list[float]], {"a": [1, INFINITY]}, "/value/a/1"),
        (float | None, NAN, "/value"),
        (Annotated[float, Field(allow_inf_nan=True)], INFINITY, "/value"),
        (Annotated[Decimal, Field(allow_inf_nan=True)], Decimal("Infinity"), "/value"),
        (Decimal, Decimal("sNaN"), "/value"),
        (Reading, Reading(value=NAN), "/value/value"),
        (Reading, Reading(value=INFINITY), "/value/value"),
        (list[Reading], [Reading(), Reading(value=NAN)], "/value/1/value"),
        (Reading, Reading(amount=Decimal("NaN")), "/value/amount"),
        (Point, Point(NAN), "/value/x"),
        (Row, {"x": NAN}, "/value/x"),
    ],
)
def test_nan_and_infinity_are_refused_wherever_they_are(hint, value, pointer):
    words, found = refused(hint, value)

    assert "finit" in words
    assert found == pointer


@pytest.mark.parametrize("nul", ["\0", "a\0b", "\\\0", "\\\\\0", '"\0'])
@pytest.mark.parametrize(
    ("hint", "wrap", "pointer"),
    [
        (str, lambda s: s, "/value"),
        (Any, lambda s: {"a": [s]}, "/value/a/0"),
        (Reading, lambda s: Reading(name=s), "/value/name"),
        (Point, lambda s: Point(1, s), "/value/name"),
    ],
    ids=["str", "any", "model", "dataclass"],
)
def test_nul_is_refused_wherever_it_is(hint, wrap, pointer, nul):
    words, found = refused(hint, wrap(nul))

    assert "the character NUL (U+0000) cannot be stored" in words
    assert found == pointer


def test_nul_in_a_key_is_refused():
    assert "NUL" in refused(dict[str, int], {"a\0": 1})[0]
    assert refused(Any, [{"a\0": 1}])[1] == "/value/0/a\\x00"


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", '\\"\\u0000', "u0000", "\\", "\1"])
def test_text_that_only_looks_like_nul_is_taken(text):
    signature = signature_for(str)

    assert signature.decode(signature.encode((text,), {}))[1] == {"value": text}


@pytest.mark.parametrize(
    ("hint", "value", "pointer"),
    [
        (str, "a\ud800", "/value"),
        (Any, ["\udfff"], "/value/0"),
        (Any, {"\ud800": 1}, "/value/\\ud800"),
        (Reading, Reading.model_construct(name="\ud800"), "/value/name"),
    ],
)
def test_half_a_character_is_refused(hint, value, pointer):
    words, found = refused(hint, value)

    assert "lone surrogate" in words
    assert found == pointer


def test_a_name_that_is_half_a_character_is_refused_in_words_that_can_be_sent():
    signature = signature_for(str)

    with pytest.raises(BadArguments) as caught:
        signature.encode(("a",), {"\ud800": 1})

    assert str(caught.value).encode()
    assert json.dumps(caught.value.errors, ensure_ascii=False).encode()


def test_as_many_levels_as_the_limit_are_taken_and_one_more_is_refused():
    for hint in (Any, Tree):
        signature = signature_for(hint)
        deepest = nested(DEPTH_LIMIT - 1)

        for value in (deepest, [deepest[0], [], []]):
            assert signature.decode(signature.encode((value,), {}))[1] == {"value": value}
        assert f"more than {DEPTH_LIMIT} levels" in refused(hint, nested(DEPTH_LIMIT))[0]


@pytest.mark.parametrize("hint", [Any, Tree, list], ids=str)
@pytest.mark.parametrize("levels", [300, 100_000])
def test_a_value_of_any_depth_is_refused(hint, levels):
    deep = nested(levels)

    assert refused(hint, deep)

    while deep:  # or its end would overflow the stack of the interpreter
        deep = deep.pop()


@pytest.mark.parametrize("hint", [Any, Tree, list], ids=str)
def test_a_value_that_contains_itself_is_refused(hint):
    loop: list[Any] = []
    loop += [loop, loop]

    assert refused(hint, loop)


def test_bytes_that_a_model_writes_as_text_are_refused_if_they_are_none():
    words, pointer = refused(Reading, Reading(raw=b"\xff"))

    assert "cannot be written as JSON: invalid utf-8" in words
    assert pointer == "/value"


def test_brackets_in_strings_are_not_levels():
    signature = signature_for(Any)
    text = '[{"\\' * DEPTH_LIMIT

    assert signature.decode(signature.encode(([text, text],), {}))[1] == {"value": [text, text]}


@given(st.recursive(st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)), st.data())
def test_the_depth_of_text_is_counted_exactly(value, data):
    levels = data.draw(st.integers(0, 80))
    for _ in range(levels):
        value = [value] if data.draw(st.booleans()) else {'"]': value}
    text = json.dumps(value).replace("\\u0000", "")

    flaw = flaw_of(text.encode(), None)

    assert (flaw is None) == (depth_of(json.loads(text)) <= DEPTH_LIMIT)


def depth_of(value):
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@pytest.mark.parametrize("hint", [Any, int, int | str, list[int], Decimal | int], ids=str)
@pytest.mark.parametrize("number", [LONG, -LONG], ids=["long", "negative"])
def test_a_whole_number_is_taken_if_it_can_be_read_back(hint, number):
    signature = signature_for(hint)
    largest = number - 1 if number > 0 else number + 1
    wrap = (lambda n: [n]) if hint == list[int] else (lambda n: n)

    assert signature.decode(signature.encode((wrap(largest),), {}))[1] == {"value": wrap(largest)}
    assert f"more than {DIGITS_LIMIT} digits" in refused(hint, wrap(number))[0]


def test_digits_in_text_are_no_number():
    signature = signature_for(Any)
    digits = "1" * (DIGITS_LIMIT * 2)

    assert signature.decode(signature.encode((digits,), {}))[1] == {"value": digits}


def test_text_over_the_limit_is_refused_with_both_sizes_and_a_way_out():
    signature = signature_for(str)
    fits = "é" * 20

    text = signature.encode((fits,), {}, limit=52)

    assert len(text.encode()) == 52
    for encode in (
        lambda: signature.encode((fits + "!",), {}, limit=52),
        lambda: signature.encode_named({"value": fits + "!"}, limit=52),
    ):
        with pytest.raises(BadArguments, match="53 bytes of JSON are over the limit of 52; store"):
            encode()


BODIES = {
    "null": None,
    "list": [],
    "string": "value",
    "key": {1: 2},
    "object": {"value": object()},
    "nan": {"value": NAN},
    "infinity": {"value": [-INFINITY]},
    "nul": {"value": "\0"},
    "surrogate": {"value": "\ud800"},
    "name": {"\ud800": 1},
    "digits": {"value": LONG},
    "depth": {"value": nested(DEPTH_LIMIT)},
    "unknown": {"value": 1, "other": 2},
    "empty": {},
}


@pytest.mark.parametrize("body", BODIES)
def test_nothing_hostile_comes_through_by_name(body):
    with pytest.raises(BadArguments) as caught:
        signature_for(Any).encode_named(BODIES[body])

    assert len(str(caught.value)) < 1000
    assert json.dumps(caught.value.errors).encode()


@pytest.mark.parametrize("hint", [Any, int, float, bool, Point, list[int], dict[str, int]], ids=str)
def test_an_error_repeats_no_value(hint):
    secret = "hunter2" * 100_000

    for value in ([secret, object()], {"name": {1: secret}}, {secret: object()}):
        with pytest.raises(BadArguments) as caught:
            signature_for(hint).encode((value,), {})

        assert len(str(caught.value)) + len(repr(caught.value.errors)) < 3000
        assert caught.value.__suppress_context__, "the context would print the value"


def test_a_list_has_one_fault_however_many_there_are_in_it():
    for hint in (list[int], set[int], tuple[int, ...], Iterable[int]):
        with pytest.raises(BadArguments) as caught:
            signature_for(hint).encode((["x", "y"],), {})

        assert [error["pointer"] for error in caught.value.errors] == ["/value/0"]


def test_a_hostile_body_is_refused_quickly_and_in_few_words():
    many = 250_000
    bodies = [
        {"value": ["x"] * many},
        {"value": [1], "other": {str(n): "x" for n in range(many // 5)}},
        {"value": [1], **{str(n): 1 for n in range(many // 5)}},
    ]

    def actor(value: list[int], other: dict[str, int]): ...

    signature = Signature.of(actor, "actor")
    signature.compile()
    for body in bodies:
        begun = time.process_time()

        with pytest.raises(BadArguments) as caught:
            signature.encode_named(body)

        assert time.process_time() - begun < 3, "a second or two would be a slow machine"
        assert len(caught.value.errors) <= 20
        assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "text",
    ["1" * DIGITS_LIMIT + "x", "\\" * 1000, "\\u0000" * 100, '"[{\\' * 100, "\\\\u0000\\" * 100],
    ids=["digits", "backslashes", "nuls", "brackets", "both"],
)
def test_text_made_to_slow_the_checks_down_does_not(text):
    data = pydantic_core.to_json([text] * (10**6 // len(text)))
    begun = time.process_time()

    assert flaw_of(data, None) is None

    assert time.process_time() - begun < 2


def test_the_digits_limit_is_that_of_python_and_of_the_parser():
    assert sys.int_info.default_max_str_digits == DIGITS_LIMIT
    assert pydantic_core.from_json("9" * DIGITS_LIMIT) == LONG - 1
    with pytest.raises(ValueError, match="out of range"):
        pydantic_core.from_json("1" + "0" * DIGITS_LIMIT)
