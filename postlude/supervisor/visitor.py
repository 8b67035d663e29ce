"""The demo's visitor: sends one notification to a running stack and waits for its mail.

``python -m postlude.supervisor.visitor URL MAILDIR`` prints what it does, then the mail. It exits
with 0 only if the mail is there; otherwise the last line says why not.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from postlude.states import FINAL, State
from postlude.supervisor.herald import is_ready, local

_WAY = "/send-notification/ada@example.com?message=Hello+from+Postlude"
_BOOT = timedelta(seconds=60)
_WORK = timedelta(seconds=30)


class Disappointed(Exception):
    """The demo did not get what it came for; the text says what and where to look."""


def main() -> None:
    """Visit the stack that the arguments name."""
    url, maildir = sys.argv[1], Path(sys.argv[2])
    try:
        visit(url, maildir)
    except Disappointed as error:
        sys.exit(f"demo failed: {error}")


def visit(url: str, maildir: Path) -> None:
    """Send a notification and print its mail; raises Disappointed."""
    if not eventually(lambda: is_ready(url), _BOOT):
        message = f"{url}/readyz did not answer within {_BOOT.seconds} s; the lines above say why"
        raise Disappointed(message)
    print(f"POST {_WAY}")  # noqa: T201 # printing is what it is for
    answer = ask(f"{url}{_WAY}", method="POST")
    print(f"202  {answer['message']}")  # noqa: T201
    for task in answer["tasks"]:
        follow(urljoin(url, task["url"]))
    print(mail(maildir, answer["tasks"][-1]["id"]))  # noqa: T201


def follow(url: str) -> None:
    """Wait until the task at ``url`` has succeeded."""
    last: dict[str, Any] = {}

    def final() -> bool:
        last.update(ask(url))
        return last["state"] in FINAL

    finished = eventually(final, _WORK)
    if not finished or last["state"] != State.SUCCEEDED:
        reason = f" ({last['reason']})" if last.get("reason") else ""
        message = f"task {last['id']} of {last['actor']} is {last['state']}{reason}; see {url}"
        raise Disappointed(message)
    print(f"{last['state']}  {last['actor']}  {last['id']}")  # noqa: T201


def mail(maildir: Path, task_id: str) -> str:
    """Return the text of the mail that the task with this id has written."""
    for folder in ("new", "cur"):
        for path in (maildir / folder).glob(f"*{task_id}*"):
            return f"{path}\n\n{path.read_text(encoding='utf-8')}"
    message = f"the task has succeeded, but there is no mail of it in {maildir}"
    raise Disappointed(message)


def ask(url: str, method: str = "GET") -> Any:
    """Return the JSON at ``url``; raises Disappointed with what the API says is wrong."""
    request = urllib.request.Request(url, method=method)  # noqa: S310 # our own address
    try:
        with local.open(request, timeout=10) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            message = (
                f"{method} {url} got {error.code}: {error.read(2000).decode(errors='replace')}"
            )
        raise Disappointed(message) from error
    except OSError as error:
        message = f"{method} {url} got no answer: {error}"
        raise Disappointed(message) from error


def eventually(true: Callable[[], bool], patience: timedelta) -> bool:
    """Ask until it is true or ``patience`` is over; returns which."""
    deadline = time.monotonic() + patience.total_seconds()
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


if __name__ == "__main__":
    main()
