"""The HTTP side of the application. ``uvicorn api:app`` serves it.

``app`` is built with the settings of this process when a server first asks for it, which ends in one
line if they make no sense; ``create_app`` builds one with others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from api.application import create_app

    app: FastAPI

__all__ = ["app", "create_app"]


def __getattr__(name: str) -> Any:
    """Import or build a public name on first use; importing another part builds nothing."""
    if name not in __all__:
        message = f"module 'api' has no attribute {name!r}"
        raise AttributeError(message)
    globals()[name] = _app() if name == "app" else _create_app()
    return globals()[name]


def _create_app() -> Callable[..., FastAPI]:
    from api.application import create_app  # noqa: PLC0415 # see above

    return create_app


def _app() -> FastAPI:
    from postlude.errors import SettingsError  # noqa: PLC0415 # see above

    try:
        return _create_app()()
    except SettingsError as error:
        message = f"api: {error}"
        raise SystemExit(message) from None
