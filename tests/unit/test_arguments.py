"""Arguments at the door: bound as Python binds them, stored by name, refused in Python's words."""

import functools
import inspect
import json
import threading
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, Unpack

import pytest
from dramatiq import GenericActor
from dramatiq.asyncio import async_to_sync
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from typing_extensions import TypedDict

from postlude.arguments import Signature
from postlude.errors import BadArguments

if TYPE_CHECKING:
    from somewhere import Customer


def send_notification(email: str, message: str, subject: str = "Notification"):
    return email, message, subject


def everything(a, b=2, /, c=3, *args: int, d, e=5, **kwargs: int):
    return a, b, c, args, d, e, kwargs


def signature_of(fn):
    return Signature.of(fn, getattr(fn, "__name__", "actor"))


def refused(fn, *args, **kwargs):
    with pytest.raises(BadArguments) as caught:
        signature_of(fn).encode(args, kwargs)
    return str(caught.value), [error["pointer"] for error in caught.value.errors]


def refused_by_name(fn, named):
    with pytest.raises(BadArguments) as caught:
        signature_of(fn).encode_named(named)
    return str(caught.value), [error["pointer"] for error in caught.value.errors]


def test_arguments_are_stored_by_name_in_the_order_of_the_signature():
    signature = signature_of(send_notification)

    text = signature.encode(("ann@example.com",), {"subject": "Hé", "message": "hello"})

    assert text == '{"email":"ann@example.com","message":"hello","subject":"Hé"}'


def test_however_a_call_spells_its_arguments_the_text_is_the_same():
    signature = signature_of(send_notification)

    assert signature.encode(("a", "b"), {}) == signature.encode((), {"message": "b", "email": "a"})
    assert signature.encode(["a", "b"], {}) == signature.encode_named(
        {"message": "b", "email": "a"}
    )


def test_defaults_are_not_stored_but_applied_by_the_function_when_it_runs():
    signature = signature_of(send_notification)

    text = signature.encode(("a", "b"), {})

    assert json.loads(text) == {"email": "a", "message": "b"}
    args, kwargs = signature.decode(text)
    assert send_notification(*args, **kwargs) == ("a", "b", "Notification")


@pytest.mark.parametrize(
    ("args", "kwargs", "words", "pointers"),
    [
        (("a",), {}, "send_notification() is missing the argument 'message'", ["/message"]),
        ((), {}, "is missing the arguments 'email', 'message'", ["/email", "/message"]),
        (("a", "b"), {"to": "c"}, "got an unexpected argument 'to'", ["/to"]),
        (("a", "b"), {"email": "c"}, "got multiple values for the argument 'email'", ["/email"]),
        (("a", "b", "c", "d"), {}, "takes 3 positional arguments but 4 were given", [""]),
        (("a", 5), {}, "got a bad value for the argument 'message': Input", ["/message"]),
        (("a", "b"), {1: "c"}, "Keys should be strings", ["/1"]),
    ],
)
def test_what_python_would_not_call_is_refused_in_its_words(args, kwargs, words, pointers):
    with pytest.raises(TypeError, match=r"^send_notification\(\) ") as caught:
        signature_of(send_notification).encode(args, kwargs)

    assert words in str(caught.value)
    assert [error["pointer"] for error in caught.value.errors] == pointers
    assert all(error["detail"] for error in caught.value.errors)


def test_every_fault_is_named_at_once():
    words, pointers = refused(send_notification, 1, subject=None, to="x")

    assert pointers == ["/email", "/message", "/subject", "/to"]
    assert "missing the argument 'message'" in words
    assert "unexpected argument 'to'" in words


def test_a_fault_inside_an_argument_has_the_pointer_to_it():
    def actor(sizes: dict[str, list[int]]): ...

    words, pointers = refused(actor, {"a/b~": [1, "two"]})

    assert pointers == ["/sizes/a~1b~0/1"]
    assert "argument 'sizes' at /sizes/a~1b~0/1: Input should be a valid integer" in words


def test_the_members_of_a_union_make_one_fault():
    def actor(size: int | list[int]): ...

    words, pointers = refused(actor, "x")

    assert pointers == ["/size"]
    assert "valid integer" in words
    assert "or: Input should be a valid list" in words

    def twice(size: Annotated[int, Field(gt=5)] | Annotated[int, Field(gt=5, lt=9)]): ...

    assert refused(twice, 1)[0].count("greater than 5") == 1


def test_an_argument_by_position_only_cannot_be_named_in_a_call():
    def actor(task, /, other): ...

    words, pointers = refused(actor, task=1, other=2)

    assert "takes the argument 'task' by position only" in words
    assert pointers == ["/task"]


def test_over_http_an_argument_by_position_only_has_a_name_like_any_other():
    def actor(task, retries=3, /): ...

    signature = signature_of(actor)

    assert signature.decode(signature.encode_named({"task": 1})) == ((1,), {})
    with pytest.raises(BadArguments, match="missing the argument 'task'"):
        signature.encode_named({"retries": 2})


def test_a_default_before_a_positional_argument_is_filled_in_for_the_call():
    signature = signature_of(everything)

    args, kwargs = signature.decode(signature.encode_named({"a": 1, "args": [7], "d": 4}))

    assert args == (1, 2, 3, 7)
    assert everything(*args, **kwargs) == (1, 2, 3, (7,), 4, 5, {})


def test_unknown_names_go_to_the_keyword_arguments_if_the_actor_takes_any():
    signature = signature_of(everything)

    text = signature.encode_named({"a": 1, "d": 4, "x": 8, "kwargs": {"y": 9}})

    assert json.loads(text)["kwargs"] == {"y": 9, "x": 8}
    args, kwargs = signature.decode(text)
    assert everything(*args, **kwargs)[-1] == {"x": 8, "y": 9}


@pytest.mark.parametrize(
    ("named", "pointer"),
    [
        ({"a": 1, "d": 4, "x": 8, "kwargs": {"x": 9}}, "/x"),
        ({"a": 1, "d": 4, "kwargs": {"d": 9}}, "/d"),
    ],
)
def test_a_name_given_directly_and_among_the_keyword_arguments_is_refused(named, pointer):
    words, pointers = refused_by_name(everything, named)

    assert "got multiple values" in words
    assert pointers == [pointer]


def test_keyword_arguments_that_became_a_parameter_are_refused_by_the_worker():
    def before(**kwargs): ...

    def after(a=1, **kwargs): ...

    text = signature_of(before).encode((), {"a": 5})

    with pytest.raises(BadArguments, match="multiple values for the argument 'a'"):
        signature_of(after).decode(text)


def test_the_types_of_args_and_kwargs_hold_for_each_of_them():
    assert refused(everything, 1, 2, 3, "x", d=4)[1] == ["/args/0"]
    assert refused(everything, 1, d=4, x="y")[1] == ["/kwargs/x"]
    assert refused_by_name(everything, {"a": 1, "d": 4, "kwargs": [1]})[1] == ["/kwargs"]


class Options(TypedDict):
    retries: int
    note: NotRequired[str]


def test_keyword_arguments_of_a_typed_dict_are_checked_as_it_says():
    def actor(**options: Unpack[Options]): ...

    signature = signature_of(actor)

    assert signature.decode(signature.encode((), {"retries": 1})) == ((), {"retries": 1})
    assert "missing the argument 'retries'" in refused(actor)[0]
    assert refused(actor, retries=1, note=2)[1] == ["/options/note"]


def test_positional_arguments_of_a_tuple_are_checked_as_it_says():
    def actor(*pair: *tuple[int, str]): ...

    signature = signature_of(actor)

    assert signature.decode(signature.encode((1, "a"), {})) == ((1, "a"), {})
    assert refused(actor, "a", "b")[1] == ["/pair/0"]
    assert refused(actor)[0]


values = st.integers(0, 9)


@given(st.lists(values, max_size=6), st.dictionaries(st.sampled_from("abcdexyz"), values))
def test_exactly_the_calls_that_python_makes_are_taken_and_come_back(args, kwargs):
    signature = signature_of(everything)
    try:
        expected = everything(*args, **kwargs)
    except TypeError:
        with pytest.raises(BadArguments):
            signature.encode(args, kwargs)
        return

    back_args, back_kwargs = signature.decode(signature.encode(args, kwargs))

    assert everything(*back_args, **back_kwargs) == expected


def test_any_parameter_name_that_python_knows_works():
    names = "schema copy json _private __dunder__ class_ validate model_config type default été"
    namespace: dict[str, Any] = {}
    exec(f"def actor({', '.join(names.split())}): ...", namespace)
    given_values = dict.fromkeys(names.split(), 1)
    signature = signature_of(namespace["actor"])

    text = signature.encode((), given_values)

    assert signature.decode(text) == ((), given_values)
    assert list(signature.json_schema()["properties"]) == names.split()


Day = int


class Callable:
    def __call__(self, day: "Day"):
        return day

    def method(self, day: "Day"):
        return day

    @classmethod
    def of_class(cls, day: "Day"):
        return day


class Report(GenericActor):
    class Meta:
        abstract = True

    def perform(self, day: "Day"):
        return day


async def coroutine(day: "Day"):
    return day


@functools.lru_cache
def wrapped(day: "Day"):
    return day


def two(prefix: str, day: "Day"):
    return prefix, day


@pytest.mark.parametrize(
    "fn",
    [
        Callable(),
        Callable().method,
        Callable.of_class,
        Report(),
        async_to_sync(coroutine),
        wrapped,
        functools.partial(two, "x"),
        functools.partial(functools.partial(two), prefix="x"),
    ],
    ids=[
        "object",
        "method",
        "classmethod",
        "class-based",
        "async",
        "wrapped",
        "partial",
        "partials",
    ],
)
def test_the_signature_of_any_callable_is_found(fn):
    signature = Signature.of(fn, "actor")

    assert signature.json_schema()["properties"]["day"] == {"type": "integer"}
    assert signature.decode(signature.encode((), {"day": "5"}))[1] == {"day": 5}


ELSEWHERE = """
Night = int
class Base:
    def __call__(self, day: "Night"): ...
    def method(self, day: "Night"): ...
def function(day: "Night"): ...
"""


@pytest.mark.parametrize("kind", ["object", "method", "function"])
def test_annotations_mean_what_they_mean_where_they_were_written(kind):
    module: dict[str, Any] = {"__name__": "elsewhere"}
    exec(ELSEWHERE, module)

    class Here(module["Base"]):
        pass

    fns = {
        "object": Here(),
        "method": Here().method,
        "function": functools.partial(functools.wraps(module["function"])(lambda day: day)),
    }

    properties = Signature.of(fns[kind], "actor").json_schema()["properties"]

    assert properties["day"]["type"] == "integer"


def test_a_callable_without_a_signature_takes_any_json_values():
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(dict)

    signature = Signature.of(dict, "actor")

    assert signature.decode(signature.encode(([],), {"a": 1})) == (([],), {"a": 1})


def test_an_actor_without_parameters_takes_nothing():
    def actor(): ...

    assert signature_of(actor).encode((), {}) == "{}"
    assert "takes 0 positional arguments but 1 was given" in refused(actor, 1)[0]


def test_an_annotation_that_names_nothing_at_run_time_leaves_that_parameter_untyped():
    def actor(customer: "Customer", day: "int"): ...

    signature = signature_of(actor)

    assert signature.encode(("c-1", "5"), {}) == '{"customer":"c-1","day":5}'
    assert "its annotation 'Customer' names nothing at run time" in refused(actor, object(), 1)[0]


def test_none_is_taken_where_it_is_the_default():
    def actor(day: int = None): ...  # noqa: RUF013 - the spelling of old is the subject

    assert signature_of(actor).encode((None,), {}) == '{"day":null}'
    assert refused(actor, "x")[1] == ["/day"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"email":"a"}', "missing the argument 'message'"),
        ('{"email":"a","message":"b","old":1}', "unexpected argument 'old'"),
        ('{"email":"a","message":[]}', "bad value for the argument 'message'"),
        ("[]", "should be an object"),
        ("", "Invalid JSON"),
        ('{"email":"a\ud800","message":"b"}', "unicode"),
        (None, "JSON input should be string"),
    ],
)
def test_stored_text_that_does_not_fit_the_actor_is_refused_by_the_worker(text, words):
    with pytest.raises(BadArguments, match=words):
        signature_of(send_notification).decode(text)


def test_eight_threads_that_need_the_schema_at_once_all_get_it():
    signature = signature_of(everything)
    barrier = threading.Barrier(8)
    texts = []

    def encode():
        barrier.wait()
        texts.append(signature.encode((1,), {"d": 2}))

    threads = [threading.Thread(target=encode) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert texts == ['{"a":1,"d":2}'] * 8
