"""An actor that is not declared when this module is imported anywhere but in a worker."""

import sys

import dramatiq

import postlude

assert postlude.__version__

if not sys.argv[0].endswith("child.py"):

    @dramatiq.actor(isolation="process", actor_name="only-in-the-worker")
    def only_in_the_worker() -> None:
        """Never runs."""
