"""The list of all routes as HTML, made from the OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

_CODE = re.compile("`([^`]+)`")


def render_reference(document: Mapping[str, Any], *, base: str) -> str:
    """Return the body of the page, all of it escaped; ``base`` is this server's address."""
    articles = "".join(
        _article(path, method, operation, base)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    return (
        "<h1>Routes</h1>"
        f"<p>{escape(document['info'].get('summary', ''))} Errors are "
        "<code>application/problem+json</code> with a stable <code>code</code>. The same list for "
        "machines: <a href='openapi.json'>openapi.json</a>.</p>"
        f"<nav><a href='./'>Home</a></nav>{articles}"
    )


def _article(path: str, method: str, operation: Mapping[str, Any], base: str) -> str:
    return (
        f"<article id='{escape(operation['operationId'])}'>"
        f"<h3><span class='method'>{method.upper()}</span>{escape(path)}</h3>"
        f"<p>{_prose(operation.get('description') or operation['summary'])}</p>"
        f"{_parameters(operation)}"
        f"<pre>{escape(_curl(path, method, operation, base))}</pre>"
        f"{_responses(operation)}</article>"
    )


def _prose(text: str) -> str:
    """Escape ``text`` and mark what stands between backquotes as code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _parameters(operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td class='quiet'>{p['in']}</td>"
        f"<td>{_prose(p.get('description', ''))}</td></tr>"
        for p in operation.get("parameters", ())
    )
    return f"<div class='table'><table>{rows}</table></div>" if rows else ""


def _responses(operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(status)}</td><td>{_prose(response['description'])}</td></tr>"
        for status, response in sorted(operation["responses"].items())
    )
    return f"<details><summary class='quiet'>Answers</summary><table>{rows}</table></details>"


def _curl(path: str, method: str, operation: Mapping[str, Any], base: str) -> str:
    query = {}
    for name, where, example in _examples(operation):
        if where == "path":
            path = path.replace(f"{{{name}}}", quote(str(example), safe="@"))
        elif where == "query":
            query[name] = example
    url = f"{base}{path}" + (f"?{urlencode(query)}" if query else "")
    if field := _file_field(operation):
        return f"curl '{url}' -F {field}=@report.pdf"
    body = _body_example(operation)
    if body is not None:
        text = json.dumps(body).replace("'", "'\\''")
        return f"curl '{url}' -H 'Content-Type: application/json' -d '{text}'"
    return f"curl '{url}'" if method == "get" else f"curl -X {method.upper()} '{url}'"


def _examples(operation: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for parameter in operation.get("parameters", ()):
        examples = parameter["schema"].get("examples") or [
            example["value"] for example in parameter.get("examples", {}).values()
        ]
        if examples:
            yield parameter["name"], parameter["in"], examples[0]


def _file_field(operation: Mapping[str, Any]) -> str | None:
    content = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data", {})
    return next(iter(content.get("schema", {}).get("properties", {})), None)


def _body_example(operation: Mapping[str, Any]) -> Any:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    for example in content.get("examples", {}).values():
        return example["value"]
    return content.get("example")
