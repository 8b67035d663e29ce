"""``python -m scheduler``: the scheduler of this application, with the schedules of its actors."""

import sys

from postlude.scheduler.life import main

if __name__ == "__main__":
    sys.exit(main(["actors"]))
