"""What is raised inside an actor whose task somebody has cancelled."""

from __future__ import annotations

from dramatiq.threading import Interrupt


class Cancelled(Interrupt):
    """Raised in a running actor at its next bytecode when its task is cancelled.

    Like Dramatiq's other interrupts it passes ``except Exception``; catch it to tidy up, and raise
    it again. An actor that swallows it and returns has succeeded.
    """
