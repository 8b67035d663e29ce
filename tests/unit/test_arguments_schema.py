"""The JSON schema of an actor: what HTTP shows, the actors table stores, and other services read."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Hashable
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, PlainValidator
from pydantic_core import core_schema

from postlude.arguments import Signature


class Odd(BaseModel):
    marker: Any = object()


class Code(str):
    """A type that takes its instances and the text that they are made from."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        made = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.union_schema([core_schema.is_instance_schema(cls), made])


class Version:
    """A type that only its own Python code understands."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        return core_schema.no_info_plain_validator_function(
            lambda value: value, serialization=core_schema.to_string_ser_schema()
        )


class Address(BaseModel):
    street: str
    zip_code: str = Field("", alias="zip")


@dataclasses.dataclass
class Sentinel:
    name: str


MISSING = Sentinel("missing")


def send(
    email: str,
    copies: Annotated[int, Field(gt=0, description="How many.")] = 1,
    *,
    price: Decimal = Decimal("1.50"),
    raw: bytes = b"\xff",
    address: Address | None = None,
    rate: float = float("nan"),
    marker: str = MISSING,
): ...


def test_it_is_an_object_of_the_named_arguments_with_their_defaults():
    schema = Signature.of(send, "send").json_schema()

    assert schema["type"] == "object"
    assert schema["required"] == ["email"]
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert list(properties) == ["email", "copies", "price", "raw", "address", "rate", "marker"]
    assert properties["email"] == {"type": "string"}
    assert properties["copies"] == {
        "type": "integer",
        "exclusiveMinimum": 0,
        "description": "How many.",
        "default": 1,
    }
    assert properties["price"]["default"] == "1.50"
    assert properties["raw"] == {"type": "string", "format": "base64url", "default": "_w=="}
    assert properties["address"]["default"] is None
    assert set(schema["$defs"]["Address"]["properties"]) == {"street", "zip"}


def test_a_default_that_json_does_not_have_is_left_out():
    properties = Signature.of(send, "send").json_schema()["properties"]

    assert "default" not in properties["rate"]


def test_it_can_always_be_written_as_json():
    def actor(
        anything,
        odd: Annotated[Any, PlainValidator(lambda value: value)],
        checked: Annotated[str, AfterValidator(str.strip)],
        *args: complex,
        model: Odd,
        hashable: Hashable,
        version: Version,
        code: Code,
        default=object(),  # noqa: B008 - a sentinel
        **kwargs: dict[int, bytes],
    ): ...

    schema = Signature.of(actor, "actor").json_schema()

    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    assert schema["required"] == [
        "anything",
        "odd",
        "checked",
        "model",
        "hashable",
        "version",
        "code",
    ]
    assert schema["properties"]["anything"] == {}
    assert schema["properties"]["hashable"] == schema["properties"]["version"] == {}
    assert schema["properties"]["code"] == {"type": "string"}
    assert "default" not in schema["properties"]["default"]


def test_names_beyond_the_parameters_are_described_as_the_keyword_arguments_are():
    def typed(**kwargs: int): ...

    def untyped(**kwargs): ...

    assert Signature.of(typed, "a").json_schema()["additionalProperties"] == {"type": "integer"}
    assert Signature.of(untyped, "a").json_schema()["additionalProperties"] is True


def test_an_actor_without_parameters_has_an_empty_object():
    def actor(): ...

    assert Signature.of(actor, "actor").json_schema() == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }


def test_what_the_caller_changes_in_it_changes_nothing():
    signature = Signature.of(send, "send")

    signature.json_schema()["properties"].clear()

    assert signature.json_schema()["properties"]


def test_the_fingerprint_changes_with_the_schema_and_with_nothing_else():
    def same(email: str, copies: int = 1): ...

    def renamed(to: str, copies: int = 1): ...

    def retyped(email: str, copies: str = 1): ...

    def required(email: str, copies: int): ...

    def again(email: str, copies: int = 1):
        """Another body and docstring."""
        return email, copies

    prints = [
        Signature.of(fn, fn.__name__).fingerprint() for fn in (same, renamed, retyped, required)
    ]

    assert len(set(prints)) == 4
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in prints)
    assert Signature.of(again, "again").fingerprint() == prints[0]


def test_every_process_finds_the_same_fingerprint():
    program = (
        "from pydantic import BaseModel\n"
        "from postlude.arguments import Signature\n"
        "class Tags(BaseModel):\n"
        "    names: set[str] = set('abcdef')\n"
        "def send(tags: Tags, typed: set[str] = set('abcdef'), untyped=frozenset('abcdef')): ...\n"
        "print(Signature.of(send, 'send').fingerprint())"
    )

    prints = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in "12"
    }

    assert len(prints) == 1
