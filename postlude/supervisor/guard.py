"""The guard: a process that outlives a killed supervisor just long enough to leave no orphans.

It reads process groups from its standard input, "+123" when one starts and "-123" when one is gone.
The end of that input means that the supervisor is dead, however it died: the groups that are left
get SIGTERM, and SIGKILL after the seconds that its only argument names. It is run by path, not as a
module, so that it loads nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time


def main() -> None:
    """Keep the list until the input ends, then end what is on it."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        number = int(line[1:])
        (groups.add if line[:1] == b"+" else groups.discard)(number)
    end(groups, grace=float(sys.argv[1]))


def end(groups: set[int], *, grace: float) -> None:
    """Ask ``groups`` to stop and kill those that are left after ``grace`` seconds."""
    if not groups:
        return
    with contextlib.suppress(OSError):
        os.write(2, b"postlude: the supervisor is gone; stopping what it ran\n")
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            # To the leader alone: a Dramatiq worker takes a second SIGTERM for "at once".
            os.kill(group, signal.SIGTERM)
            os.killpg(group, signal.SIGCONT)
    deadline = time.monotonic() + grace
    while any(map(alive, groups)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for group in filter(alive, groups):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def alive(group: int) -> bool:
    """Tell whether any process of ``group`` is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
