"""Pages for people: what this is, what to try, and all routes. They load nothing from elsewhere."""

from __future__ import annotations

import re
from functools import lru_cache
from html import escape
from importlib.resources import files
from string import Template

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from api.welcome.reference import render_reference

router = APIRouter(include_in_schema=False)

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PLAIN_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")


@router.get("/")
def home(request: Request) -> HTMLResponse:
    """Say what this is and what to try."""
    root = escape(request.scope.get("root_path", ""))
    body = _template("home.html").substitute(root=root, base=escape(_base(request)))
    return _page("Postlude", body)


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """List every route with its parameters, an example and its answers."""
    body = render_reference(request.app.openapi(), base=_base(request))
    return _page("Postlude: routes", body)


def _base(request: Request) -> str:
    """Return the address under which this page was asked for, if a shell can take it as it is."""
    host = request.headers.get("host", "")
    if not _PLAIN_HOST.fullmatch(host):
        settings = request.app.state.settings
        host = f"{settings.host}:{settings.port}"
    return f"{request.url.scheme}://{host}{request.scope.get('root_path', '')}"


def _page(title: str, body: str) -> HTMLResponse:
    html = _template("page.html").substitute(title=title, style=_text("style.css"), body=body)
    return HTMLResponse(html, headers={"content-security-policy": _POLICY})


@lru_cache
def _template(name: str) -> Template:
    return Template(_text(name))


@lru_cache
def _text(name: str) -> str:
    return files(__name__).joinpath(name).read_text("utf-8")
