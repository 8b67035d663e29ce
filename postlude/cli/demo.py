"""``postlude demo``: the whole way of one notification, from the request to the mail."""

from __future__ import annotations

import sys

import typer


def demo() -> None:
    """Run everything, post a notification, wait for it, print the mail, stop.

    Uses the same data folder as `postlude run`, and another port if that one is taken. Exits with 0
    only when the mail was found; otherwise the reason is the last thing printed.
    """
    from postlude import supervisor
    from postlude.settings import load
    from postlude.supervisor.herald import base_url
    from postlude.supervisor.role import Role

    # A real mail server would be sent a mail to somebody; the demo writes to the maildir instead.
    environment = {"POSTLUDE_MAIL_URL": "", "POSTLUDE_API_KEYS": ""}
    settings = supervisor.prepare(load(mail_url="", api_keys=()), any_port=True)
    visitor = Role(
        "demo",
        (
            sys.executable,
            "-m",
            "postlude.supervisor.visitor",
            base_url(settings),
            str(settings.data_dir / "mail"),
        ),
        once=True,
    )
    code, report = supervisor.run_stack(
        settings, guests=[visitor], environment=environment, invite=False
    )
    typer.echo("\n".join(["", *report]))
    raise typer.Exit(code)
