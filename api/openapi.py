"""The OpenAPI description: what FastAPI makes of the routes, plus problems, keys and roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from api import examples
from api.problems import HTTP_PROBLEMS, MEDIA_TYPE, Kind
from api.security import OPEN_PATH, required_role
from postlude.errors import PostludeError

ANY = ("unauthorized", "forbidden", "stranger", "payload-too-large", "internal-error")
"""What every route may answer that needs a key once there are keys."""
READS = (*ANY, "ledger-unavailable")
"""What a route may answer that reads the ledger."""
ADDS = (
    *READS,
    *("ledger-busy", "ledger-too-new", "accept-unknown", "bad-arguments", "validation"),
    *("bad-idempotency-key", "idempotency-mismatch"),
)
"""What a route may answer that adds tasks, and takes an Idempotency-Key for that."""
CHANGES = (
    *READS,
    *("ledger-busy", "ledger-too-new", "accept-unknown", "unknown-task", "task-expired"),
)
"""What a route may answer that changes one task."""
JSON = ("malformed-json", "unsupported-media-type", "validation")
"""What a route may answer that reads a JSON body."""

_TEXT = {"type": "string"}
IDEMPOTENCY_KEY: dict[str, Any] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "A text of your own, up to 255 printable ASCII characters, new for each "
            "new request. A request that is sent again with its key, query and body is not done "
            "again but answered as before, with `Idempotency-Replayed: true`.",
            "schema": {"type": "string", "examples": ["8e03978e-40d5-43dd-bc93-6894a57f9324"]},
        }
    ]
}
"""``openapi_extra`` of a route that takes an Idempotency-Key."""
_HEADERS = {
    401: {"WWW-Authenticate": {"schema": _TEXT, "description": "How to show a key."}},
    503: {"Retry-After": {"schema": _TEXT, "description": "Seconds to wait."}},
}


def location(description: str) -> dict[int | str, dict[str, Any]]:
    """Tell OpenAPI of the headers of a 202 of a route that takes an Idempotency-Key."""
    replayed = {"schema": {"const": "true"}, "description": "This was answered before."}
    where = {"schema": _TEXT, "description": description}
    return {202: {"headers": {"Location": where, "Idempotency-Replayed": replayed}}}


LOCATION: dict[int | str, dict[str, Any]] = location("Where to follow the task.")
"""What OpenAPI is to know about a 202."""
LINK: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"Link": {"schema": _TEXT, "description": "The next page, if any."}}}
}
"""What OpenAPI is to know about a page of a list."""

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "What went wrong, as RFC 9457 has it. Decide by `code`; the words may change.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "urn:postlude:problem:<code>"},
        "title": {"type": "string", "description": "The same for every problem with this code."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What failed, which one, what to do about it."},
        "code": {"type": "string", "description": "Stable; docs/problems.md lists them."},
        "instance": {
            "type": "string",
            "format": "uri",
            "description": "Names this request; its id is in X-Request-ID and in the server's log.",
        },
        "errors": {
            "type": "array",
            "description": "Each fault, if there can be several.",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "in": {"type": "string", "enum": ["body", "query", "path", "header"]},
                    "pointer": {"type": "string", "description": "JSON Pointer (RFC 6901)."},
                    "detail": {"type": "string"},
                },
            },
        },
        "tasks": {
            "type": "array",
            "description": "accept-unknown: the tasks to ask for before sending again.",
            "items": {"type": "string"},
        },
    },
}


def kinds() -> dict[str, Kind]:
    """Return every code there is, of HTTP and of :mod:`postlude.errors`, in alphabetical order."""
    found = dict(HTTP_PROBLEMS)
    classes: list[type[PostludeError]] = [PostludeError]
    while classes:
        cls = classes.pop()
        found[cls.code] = Kind(cls.status, cls.title)
        classes.extend(cls.__subclasses__())
    return dict(sorted(found.items()))


def responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Describe for OpenAPI the problems that a route may answer with."""
    known = kinds()
    described: dict[int | str, dict[str, Any]] = {}
    for code in sorted(set(codes), key=lambda code: (known[code].status, code)):
        kind = known[code]
        entry = described.setdefault(kind.status, {"description": "", "content": {}})
        words = f"`{code}`: {kind.title}."
        entry["description"] = f"{entry['description']} {words}".strip()
        if kind.status in _HEADERS:
            entry["headers"] = _HEADERS[kind.status]
        entry["content"][MEDIA_TYPE] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return described


class Api(FastAPI):
    """A FastAPI application whose description tells the truth about its errors and its keys."""

    keyed = False
    """Whether a key is needed at all."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI 3.1 document; made once, on first use."""
        document = super().openapi()
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        schemas["Problem"] = dict(SCHEMA)
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        # Set here, not on the models: FastAPI drops every null on its way, those of examples too.
        for name, example in examples.OF_SCHEMA.items():
            schemas.get(name, {})["examples"] = [example]
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _complete(operation, method.upper(), path, keyed=self.keyed)
        return document


def _complete(operation: dict[str, Any], method: str, path: str, *, keyed: bool) -> None:
    # FastAPI claims a 422 of its own for every route with a parameter, even where none can fail.
    default = operation["responses"].get("422", {}).get("content", {})
    if "application/json" in default:
        del operation["responses"]["422"]
    if path == OPEN_PATH:
        operation["security"] = []
        return
    operation["security"] = [{"bearer": []}, {"key": []}, *([] if keyed else [{}])]
    operation["x-postlude-role"] = required_role(method, path).value
