"""The application in the test's own process, with a ledger of its own."""

from __future__ import annotations

import logging
import shutil
from contextlib import contextmanager

import pytest
import structlog
from fastapi.testclient import TestClient

from actors.cache import loaders
from api import create_app
from postlude.settings import settings


@contextmanager
def api(folder, ledger=None, **variables):
    """Serve the application from ``folder``, with a copy of ``ledger``, to a client on this machine."""
    if ledger:
        shutil.copy(ledger, folder)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    local = {"base_url": "http://127.0.0.1:8000", "client": ("127.0.0.1", 4711)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"DATA_DIR": str(folder), "LOG_LEVEL": "error", **variables}.items():
            patch.setenv(f"POSTLUDE_{name}", value)
        patch.setattr(loaders, "_loaders", dict(loaders._loaders))
        settings.cache_clear()
        try:
            with TestClient(create_app(), **local) as client:
                yield client
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            structlog.reset_defaults()
            settings.cache_clear()
