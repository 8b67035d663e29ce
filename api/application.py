"""The application: routes, and around them the layers that every request passes."""

from __future__ import annotations

from fastapi import FastAPI

import postlude
from api import problems, welcome
from api.edge import Edge
from api.lifespan import lifespan
from api.limits import BodyLimit
from api.openapi import Api
from api.routes import cache, events, files, health, notifications
from api.routes.v1 import actors, tasks
from api.security import Keys, Strangers
from postlude.settings import Settings
from postlude.settings import settings as settings_of_process

_SUMMARY = "Add tasks now, have them finished afterwards, and follow them by id."


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; opens nothing: its lifespan does that.

    Raises SettingsError when ``POSTLUDE_API_KEYS`` makes no sense.
    """
    settings = settings or settings_of_process()
    app = Api(
        title="Postlude",
        version=postlude.__version__,
        summary=_SUMMARY,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # A slash too many is an error like any other, not a redirect to where Host says.
        redirect_slashes=False,
    )
    app.state.settings = settings
    problems.install(app)
    # Each of these goes around the ones before it.
    app.add_middleware(BodyLimit, limit=settings.body_limit, streamed={"/files"})
    keys = Keys(settings.api_keys)
    app.keyed = bool(keys)
    app.add_middleware(Strangers, keys=keys)
    app.add_middleware(Edge)
    postlude.install(app)
    for noun in (welcome, notifications, files, events, cache, tasks, actors, health):
        app.include_router(noun.router)
    return app
