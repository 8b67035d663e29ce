"""Typed arguments come back as what they were, or are refused: nothing changes on its way."""

import dataclasses
import datetime as dt
import enum
import ipaddress
import json
import threading
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    EmailStr,
    Field,
    InstanceOf,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SecretStr,
    StringConstraints,
    computed_field,
)
from pydantic_core import core_schema
from typing_extensions import TypeAliasType, TypedDict

from postlude.arguments import Signature
from postlude.arguments.parts import difference
from postlude.durations import Duration
from postlude.errors import BadArguments

MOMENT = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Size(enum.StrEnum):
    SMALL = "small"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: float = 0
    seen: dt.datetime | None = None
    raw: bytes = b""


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    at: dt.datetime


class Pair(NamedTuple):
    left: int
    right: bytes


class Draft(TypedDict):
    text: str
    raw: bytes


class Mail(BaseModel):
    to: str = Field("x", alias="from")
    price: Decimal = Decimal(0)
    sent: dt.datetime | None = None
    tags: set[str] = set()
    note: int = Field(1, serialization_alias="remark")

    @computed_field
    @property
    def length(self) -> int:
        return len(self.to)

    @cached_property
    def words(self) -> list[str]:
        return self.to.split()


class Tracked(BaseModel):
    name: str
    _seen: object = PrivateAttr(default_factory=object)


class Strict(BaseModel, extra="forbid"):
    sender: str = Field(alias="from")

    @computed_field
    @property
    def length(self) -> int:
        return len(self.sender)


class Code(str):
    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        made = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.union_schema([core_schema.is_instance_schema(cls), made])


class Names(RootModel[list[str]]):
    def __iter__(self):
        return iter(self.root)


class Mailing(Mail):
    copies: int = 2


class Money:
    """A type of its own, as libraries define them: no __eq__, text in JSON."""

    def __init__(self, text: str):
        self.text = text

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        made = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), made],
            serialization=core_schema.plain_serializer_function_ser_schema(lambda m: m.text),
        )


def signature_for(hint, default=dataclasses.MISSING):
    def actor(value): ...

    actor.__annotations__ = {"value": hint}
    if default is not dataclasses.MISSING:
        actor.__defaults__ = (default,)
    return Signature.of(actor, "actor")


def there_and_back(hint, value):
    signature = signature_for(hint)
    text = signature.encode((value,), {})
    again = signature.encode_named(json.loads(text))
    back = signature.decode(text)[1]["value"]
    assert difference(signature.decode(again)[1]["value"], back) is None, "HTTP takes what it shows"
    return back


def refused(hint, value):
    with pytest.raises(BadArguments) as caught:
        signature_for(hint).encode((value,), {})
    assert len(caught.value.errors) == 1
    return str(caught.value), caught.value.errors[0]["pointer"]


def storable(text):
    return "\0" not in text


text = st.text().filter(storable)
finite = st.floats(allow_nan=False, allow_infinity=False)
offsets = st.integers(-1439, 1439).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
instants = st.datetimes(timezones=offsets)
scalars = st.none() | st.booleans() | st.integers() | finite | text
plain = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=8
)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
mails = st.builds(
    Mail,
    **{"from": text},
    price=decimals,
    sent=instants,
    tags=st.sets(text),
    note=st.integers(),
)

TYPES = {
    "any": (Any, plain),
    "object": (object, plain),
    "dict": (dict, st.dictionaries(text, plain)),
    "list": (list, st.lists(plain)),
    "str": (str, text),
    "int": (int, st.integers()),
    "float": (float, finite),
    "bool": (bool, st.booleans()),
    "none": (None, st.none()),
    "bytes": (bytes, st.binary()),
    "decimal": (Decimal, decimals),
    "uuid": (uuid.UUID, st.uuids()),
    "datetime": (dt.datetime, st.datetimes() | instants),
    "date": (dt.date, st.dates()),
    "time": (dt.time, st.times() | st.times(timezones=offsets)),
    "timedelta": (dt.timedelta, st.timedeltas()),
    "enum": (Colour, st.sampled_from(Colour)),
    "int enum": (Level, st.sampled_from(Level)),
    "str enum": (Size, st.sampled_from(Size)),
    "flag": (Access, st.sampled_from([Access.READ, Access.READ | Access.WRITE])),
    "literal": (Literal["a", 1, True] | None, st.sampled_from(["a", 1, True, None])),
    "path": (Path, st.sampled_from([Path("/a/b"), Path("c")])),
    "address": (ipaddress.IPv4Address, st.ip_addresses(v=4)),
    "complex": (complex, st.complex_numbers(allow_nan=False, allow_infinity=False)),
    "set": (set[int], st.sets(st.integers())),
    "frozenset of uuids": (frozenset[uuid.UUID], st.frozensets(st.uuids())),
    "set of dates": (set[dt.date], st.sets(st.dates())),
    "tuple": (tuple[int, bytes], st.tuples(st.integers(), st.binary())),
    "tuple of any": (tuple[str, ...], st.lists(text).map(tuple)),
    "sequence": (Sequence[Decimal], st.lists(decimals)),
    "mapping": (Mapping[str, bytes], st.dictionaries(text, st.binary())),
    "dict by int": (dict[int, dt.date], st.dictionaries(st.integers(), st.dates())),
    "dict by date": (dict[dt.date, float], st.dictionaries(st.dates(), finite)),
    "optional": (dt.date | None, st.none() | st.dates()),
    "number": (int | float | Decimal, st.integers() | finite | decimals),
    "date or datetime": (dt.date | dt.datetime, st.dates() | st.datetimes()),
    "uuid or int": (uuid.UUID | int, st.uuids() | st.integers()),
    "namedtuple": (Pair, st.builds(Pair, st.integers(), st.binary())),
    "typed dict": (Draft, st.fixed_dictionaries({"text": text, "raw": st.binary()})),
    "dataclass": (Point, st.builds(Point, finite, st.none() | instants, st.binary())),
    "slotted": (Slotted, st.builds(Slotted, instants)),
    "model": (Mail, mails),
    "root model": (Names, st.builds(Names, st.lists(text))),
    "models": (list[Mail], st.lists(mails)),
    "email": (EmailStr, st.sampled_from(["ann@example.com", "jörg@bücher.example"])),
    "positive": (Annotated[int, Field(gt=0)], st.integers(1)),
    "stripped": (Annotated[str, StringConstraints(strip_whitespace=True)], text.map(str.strip)),
}


@pytest.mark.parametrize("name", TYPES)
def test_a_typed_argument_comes_back_as_it_was(name):
    hint, strategy = TYPES[name]

    @given(strategy)
    @settings(max_examples=20, deadline=None)
    def check(value):
        back = there_and_back(hint, value)

        assert back == value
        assert type(back) is type(value)

    check()


@given(plain)
@settings(max_examples=100, deadline=None)
def test_an_argument_without_a_type_comes_back_as_it_was(value):
    assert json.dumps(there_and_back(Any, value)) == json.dumps(value)


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (int, "5", 5),
        (int, Level.LOW, 1),
        (str, Size.SMALL, "small"),
        (dt.datetime, "2026-01-02T03:04:05Z", dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        (Colour, "red", Colour.RED),
        (Mail, {"from": "a"}, Mail(**{"from": "a"})),
        (Iterable[int], (n for n in [1, 2]), [1, 2]),
        (Sequence[int], (1, 2), [1, 2]),
        (Sequence[int], range(2), [0, 1]),
        (Any, [(1, 2)], [[1, 2]]),
        (EmailStr, "Ann@EXAMPLE.com", "Ann@example.com"),
        (Duration, "90s", dt.timedelta(seconds=90)),
        (Point, Point(1), Point(1.0)),
    ],
)
def test_an_argument_is_coerced_as_its_annotation_says(hint, value, expected):
    back = there_and_back(hint, value)

    assert back == expected
    assert type(back) is type(expected)


@pytest.mark.parametrize(
    ("given_value", "back", "path"),
    [
        (Decimal("1.5"), 1.5, ()),
        (1.0, 1, ()),
        (1, True, ()),
        (True, 1, ()),
        (Size.SMALL, "small", ()),
        ("a", "b", ()),
        (b"a", b"b", ()),
        ([1, "a"], [1, "b"], (1,)),
        ([1], [1, 2], ()),
        ((1,), {1}, ()),
        ({"a": [1]}, {"a": [2]}, ("a", 0)),
        ({"a": 1}, {"b": 1}, ()),
        ({1, 2}, {1, 3}, ()),
        (Point(1), Point(2), ("x",)),
        (Tracked(name="a"), Tracked(name="b"), ("name",)),
        (dt.date(2026, 1, 2), MOMENT, ()),
        (Money("1"), Money("2"), ()),
        ([], (), ()),
    ],
)
def test_a_difference_is_found_where_it_is(given_value, back, path):
    assert difference(given_value, back) == (path, *at(path, given_value, back))
    assert difference(given_value, given_value) is None


def at(path, *values):
    for step in path:
        values = [v[step] if isinstance(v, list | dict) else getattr(v, step) for v in values]
    return tuple(values)


def test_a_type_without_equality_is_compared_by_its_state():
    assert there_and_back(Money, Money("5")).text == "5"


def test_a_type_that_takes_its_own_instances_and_text_comes_back_as_itself():
    assert type(there_and_back(Code, Code("a"))) is Code
    assert type(there_and_back(Code, "a")) is Code


def test_private_attributes_of_a_model_stay_behind():
    assert there_and_back(Tracked, Tracked(name="a")).name == "a"


def test_a_time_in_a_repeated_hour_is_taken_although_python_calls_it_equal_to_nothing():
    zone = ZoneInfo("Europe/Berlin")
    autumn = dt.datetime(2025, 10, 26, 2, 30, tzinfo=zone, fold=1)
    assert autumn != autumn.astimezone(dt.UTC)

    assert there_and_back(dt.datetime, autumn) - autumn == dt.timedelta()
    assert there_and_back(Slotted, Slotted(autumn)).at - autumn == dt.timedelta()


def test_a_subclass_of_datetime_is_taken_because_test_clocks_use_one():
    class Frozen(dt.datetime):
        pass

    class FrozenDate(dt.date):
        pass

    assert there_and_back(dt.date | None, FrozenDate(2026, 1, 2)) == dt.date(2026, 1, 2)
    assert there_and_back(dt.datetime, Frozen(2026, 1, 2, tzinfo=dt.UTC)) == MOMENT


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (str | dt.datetime, MOMENT, "datetime would come back from JSON as str"),
        (str | bytes, b"abc", "bytes would come back from JSON as str"),
        (str | Size, Size.SMALL, "Size would come back from JSON as str"),
        (Mail, Mailing(), "Mailing would come back from JSON as Mail"),
        (SecretStr, "hunter2", "SecretStr would come back from JSON with another value"),
        (Duration, dt.timedelta(microseconds=5), "whole number of milliseconds"),
        (dt.datetime, dt.datetime(1800, 1, 1, tzinfo=ZoneInfo("Europe/Paris")), "another value"),
        (Annotated[int, BeforeValidator(lambda n: int(n) + 1)], 1, "with another value"),
        (Annotated[str, PlainSerializer(lambda _: object())], "a", "cannot be written as JSON"),
        (Annotated[str, AfterValidator(lambda s: s + "!")], "a", "with another value"),
        (Annotated[bytes, AfterValidator(lambda b: b + b"!")], b"b", "with another value"),
        (Annotated[str, PlainSerializer(str.upper)], "c", "with another value"),
        (Literal[b"raw"], b"raw", "value"),
        (dict[tuple[int, int], int], {(1, 2): 3}, "value"),
        (Names, Names.model_construct([1]), "Input should be a valid string"),
    ],
)
def test_what_would_come_back_as_something_else_is_refused(hint, value, words):
    assert words in refused(hint, value)[0]


def test_only_what_may_change_on_its_way_is_read_back():
    def actor(
        email: EmailStr, count: int, at: dt.datetime, *, until: dt.datetime | None = None, name=""
    ): ...

    signature = Signature.of(actor, "actor")

    text = signature.encode(("ann@example.com", 1, MOMENT), {"name": "Ann"})

    assert signature._compiled().inexact == {"at", "until"}
    assert signature.decode(text)[1]["at"] == MOMENT


def test_an_object_that_calls_itself_different_is_believed():
    class Unlike:
        def __eq__(self, other):
            return False

        __hash__ = None

    assert difference(Unlike(), Unlike()) is not None


def test_a_secret_is_not_repeated_in_the_error():
    assert "hunter2" not in refused(SecretStr, "hunter2")[0]


@pytest.mark.parametrize(
    "value",
    [MOMENT, uuid.UUID(int=1), Decimal(1), b"a", {1}, Colour.RED, object(), print],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize(
    "hint", [Any, object, list[Any], dict[str, Any], dict, Sequence[Any]], ids=str
)
def test_without_a_type_only_json_values_are_taken(hint, value):
    wrapped = {Any: value, object: value}.get(hint, [value])
    wrapped = {"key": value} if hint in (dict, dict[str, Any]) else wrapped

    words, pointer = refused(hint, wrapped)

    assert f"a value of type {type(value).__name__} would come back from JSON as something" in words
    assert "annotate the parameter with its type" in words
    assert pointer in ("/value", "/value/0", "/value/key")


@pytest.mark.parametrize("value", [Level.LOW, Size.SMALL, Pair(1, b""), type("S", (str,), {})("a")])
def test_without_a_type_a_subclass_of_a_json_type_is_refused_too(value):
    assert "annotate the parameter" in refused(Any, [value])[0]


@pytest.mark.parametrize("hint", [Any, dict, dict[str, int]], ids=str)
def test_keys_of_a_dict_without_a_key_type_are_strings(hint):
    assert refused(hint, {1: 2})[1] in ("/value", "/value/1")
    assert refused(hint, {None: 2})


class Session:
    pass


@pytest.mark.parametrize(
    "hint",
    [
        Session,
        Session | None,
        list[Session],
        dict[str, Session],
        Callable[[], int],
        list[Callable[[], int]],
        Callable[[], int] | type[int],
        type(threading.Lock()),
        typing.IO[str],
        Iterator[int],
        type[int],
        InstanceOf[Session],
        "Session",
    ],
    ids=str,
)
def test_a_type_that_cannot_travel_is_named_when_the_schema_is_compiled(hint):
    signature = signature_for(hint, default=None)

    with pytest.raises(BadArguments) as caught:
        signature.compile()

    assert str(caught.value).startswith("actor() has a parameter 'value' that is of type ")
    assert "of which no value can travel as JSON; pass an id" in str(caught.value)
    assert caught.value.errors[0]["pointer"] == "/value"
    with pytest.raises(BadArguments, match="that is of type"):
        signature.encode((), {})


def test_a_broken_annotation_is_reported_in_the_words_of_pydantic():
    class Broken(BaseModel):
        other: "Nowhere"  # noqa: F821 - the point of it

    with pytest.raises(BadArguments, match=r"parameter 'value'.*Broken: name 'Nowhere' is not"):
        signature_for(Broken).compile()


def test_a_model_is_stored_under_the_names_that_read_it_back():
    """``note`` of Mail is written under an alias that it is not read under."""

    def actor(default: Mail): ...

    text = Signature.of(actor, "actor").encode((Mail(note=7),), {})

    assert json.loads(text)["default"]["note"] == 7
    assert Signature.of(actor, "actor").decode(text)[1]["default"].note == 7


def test_a_model_is_stored_under_its_aliases_and_without_what_it_computes():
    text = signature_for(Strict).encode((Strict(**{"from": "a"}),), {})

    assert json.loads(text) == {"value": {"from": "a"}}
    assert signature_for(Strict).decode(text)[1]["value"].sender == "a"


Tree = TypeAliasType("Tree", "list[Tree]")


def test_a_recursive_type_works():
    assert there_and_back(Tree, [[], [[]]]) == [[], [[]]]
