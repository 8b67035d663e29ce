"""An actor whose memory limit no process can keep to."""

import dramatiq

import postlude

assert postlude.__version__


@dramatiq.actor(isolation="process", memory_limit="16MiB", actor_name="barely-apart")
def barely_apart() -> None:
    """Never runs."""
