"""Arguments of a call of which one more positional argument comes later."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel

from postlude.arguments import Signature
from postlude.errors import BadArguments


class Node(BaseModel):
    name: str
    parent: Node | None = None


def plain(x: int, y: datetime, z: str = "z") -> None: ...
def only(x: int, /, y: int, **more: int) -> None: ...
def rest(first: Node, *others: Node | str, last: str = "") -> None: ...
def keyword(*, x: int) -> None: ...


AT = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "text", "taker"),
    [
        (plain, (1,), {}, '{"x":1}', "y"),
        (plain, (), {"y": AT}, '{"y":"2027-01-01T00:00:00Z"}', "x"),
        (plain, ("1", AT), {}, '{"x":1,"y":"2027-01-01T00:00:00Z"}', "z"),
        (only, (), {"y": 1, "x": 2}, '{"more":{"x":2},"y":1}', "x"),
        (only, (1,), {}, '{"x":1}', "y"),
        (rest, (), {}, "{}", "first"),
        (
            rest,
            (Node(name="a"),),
            {"last": "l"},
            '{"first":{"name":"a","parent":null},"last":"l","others":[]}',
            "others",
        ),
        (
            rest,
            (Node(name="a"), "b"),
            {},
            '{"first":{"name":"a","parent":null},"others":["b"]}',
            "others",
        ),
    ],
)
def test_the_next_positional_parameter_takes_what_comes_later(fn, args, kwargs, text, taker):
    encoded, parameter = Signature.of(fn, "f").encode_piped(args, kwargs)

    assert (json.loads(encoded), parameter) == (json.loads(text), taker)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "words"),
    [
        (
            plain,
            (1, AT, "z"),
            {},
            "takes 3 positional arguments but 4 were given, the last of them",
        ),
        (keyword, (), {"x": 1}, "takes 0 positional arguments but 1 was given, the last of them"),
        (plain, (), {"x": 1, "y": AT}, "multiple values for the argument 'x'"),
        (plain, (), {}, "is missing the argument 'y'"),
        (plain, ("x",), {}, "bad value for the argument 'x'"),
        (plain, (1,), {"w": 2}, "unexpected argument 'w'"),
        (rest, (), {"others": []}, "unexpected argument 'others'"),
    ],
)
def test_what_does_not_fit_without_it_will_not_fit_with_it(fn, args, kwargs, words):
    with pytest.raises(BadArguments, match=words):
        Signature.of(fn, "f").encode_piped(args, kwargs)


def test_too_much_is_refused():
    with pytest.raises(BadArguments, match="over the limit of 9"):
        Signature.of(rest, "f").encode_piped((Node(name="a" * 9),), {}, limit=9)


def test_the_same_signature_still_wants_all_arguments_of_other_calls():
    signature = Signature.of(plain, "f")
    signature.encode_piped((1,), {})

    with pytest.raises(BadArguments, match="is missing the argument 'y'"):
        signature.encode((1,), {})
    assert signature.decode('{"x": 1, "y": "2027-01-01T00:00:00Z"}') == ((), {"x": 1, "y": AT})
