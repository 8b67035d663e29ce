"""Says, once the API answers, where it is and what to try."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta

from postlude.settings import Settings

_PAUSE = 0.25
local = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Never through a proxy: the API is on this machine."""


class Herald:
    """Asks ``ready`` now and then until it says yes, then calls ``announce`` once."""

    def __init__(self, ready: Callable[[], bool], announce: Callable[[], None]) -> None:
        self._ready = ready
        self._announce = announce
        self._next = 0.0
        self._done = False

    def __call__(self) -> None:
        """Take one turn; quick once the announcement is made."""
        now = time.monotonic()
        if self._done or now < self._next:
            return
        self._next = now + _PAUSE
        if self._ready():
            self._done = True
            self._announce()


def base_url(settings: Settings) -> str:
    """Return the address under which this machine reaches the API."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def is_ready(
    url: str, *, any_answer: bool = False, patience: timedelta = timedelta(seconds=0.5)
) -> bool:
    """Tell whether the API at ``url`` is ready; when it asks for a key first, it is up at least.

    With ``any_answer`` whatever it answers will do: not every app has this address.
    """
    try:
        with local.open(f"{url}/readyz", timeout=patience.total_seconds()):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return any_answer or error.code in {401, 403}
    except OSError:
        return False


def invitation(settings: Settings) -> list[str]:
    """Return the lines that tell a newcomer what to do next."""
    url = base_url(settings)
    key = " -H 'Authorization: Bearer …'" if settings.api_keys else ""
    mail = settings.data_dir / "mail" / "new"
    return [
        "",
        f"  Postlude is up:  {url}",
        f"  API reference:   {url}/docs",
        "",
        "  Try it:",
        f"    curl -X POST{key} '{url}/send-notification/ada@example.com?message=hello'",
        f"    curl{key} {url}/v1/tasks",
        *([] if settings.mail_url.get_secret_value() else [f"    cat {mail}/*"]),
        "",
        "  Ctrl-C lets running tasks finish, then stops.",
        "",
    ]
