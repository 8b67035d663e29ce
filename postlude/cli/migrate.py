"""``postlude migrate``."""

from __future__ import annotations


def migrate() -> None:
    """Bring the ledger's schema up to this version. May run twice, and while processes run."""
    from postlude import logs
    from postlude.ledger.migrate import upgrade
    from postlude.settings import load

    settings = load()
    logs.configure(settings, "migrate")
    upgrade(settings)
