"""The door that new tasks come in by, and how a test puts another one in its place.

In production the door is the process's ledger. :func:`postlude.testing.inline` puts up another,
which runs the tasks instead of storing them; whatever takes in tasks asks :func:`stand_in` first.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection

    from postlude.ledger.key import Answer
    from postlude.ledger.task import NewTask


class Door(Protocol):
    """Takes in tasks that were checked and encoded. Every method may be called by any thread."""

    async def accept(
        self, tasks: Sequence[NewTask], *, started: bool, answer: Answer | None = None
    ) -> None:
        """Promise to run ``tasks``; they wait for :meth:`release`, durable on return.

        All or none: raises LedgerError when none was stored, AcceptUnknown when that is not known.
        A caller that is refused or cancelled meanwhile owes nothing: what was stored all the same
        is released if its response has ``started``, withdrawn if not.

        ``answer`` is stored with them; raises Answered when another request has answered under its
        key, and then stores nothing. With it, what was stored all the same is released: whoever
        repeats the request is told that it was accepted.
        """

    def release(self, ids: Sequence[str]) -> None:
        """Let accepted tasks run. Neither waits nor fails: what was not heard is said again."""

    def withdraw(self, ids: Sequence[str]) -> None:
        """Cancel accepted tasks that nobody wants any more. Neither waits nor fails."""

    def accept_within(self, tasks: Sequence[NewTask], lend: Callable[[], Connection]) -> None:
        """Store ``tasks`` in the transaction of the connection that ``lend`` lends; its commit promises.

        Whoever commits it calls :meth:`release` when they may run; whoever does not, or cannot tell,
        calls :meth:`doubt`. Raises BadBinding, BadOptions for a message that is another task already, or
        LedgerError and then may be called again.
        """

    def doubt(self, ids: Sequence[str]) -> None:
        """Release those that were committed after all, forget the others. Neither waits nor fails."""

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Return those that no commit has stored, as everybody else sees it. Raises LedgerError."""


class StandIn(Door, Protocol):
    """A door that a test puts up; it takes what is sent outside a request, too."""

    def enqueue(self, tasks: Sequence[NewTask]) -> None:
        """Take in tasks that may run at once, but for those that wait for another one."""


_stand_in: StandIn | None = None


def stand_in() -> StandIn | None:
    """Return the door that a test has put up for this whole process, None in production."""
    return _stand_in


@contextmanager
def use(door: StandIn) -> Iterator[None]:
    """Let every new task of this process, whichever thread adds it, come in by ``door``."""
    global _stand_in  # noqa: PLW0603 # one door a process, as there is one ledger
    before, _stand_in = _stand_in, door
    try:
        yield
    finally:
        _stand_in = before
