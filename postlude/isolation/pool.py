"""The children of this worker: started when they are needed, kept warm, never trusted for long."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from postlude.isolation.process import ChildProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

log = structlog.get_logger()

IDLE_S = 60.0
"""How long a child is kept that has nothing to do."""
TASKS = 1000
"""Tasks after which a child is replaced: what leaks in somebody's library ends with it."""


class Pool:
    """At most one child for each thread that runs a task apart. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[ChildProcess] = []
        self._lent: set[ChildProcess] = set()
        self._closed = False
        # A child dies with the thread that started it; worker threads end one by one, this one last.
        self._nursery = ThreadPoolExecutor(1, thread_name_prefix="children")

    @contextmanager
    def lend(self, module: str, *, fresh: bool = False) -> Iterator[ChildProcess]:
        """Lend a child, preferably one that has loaded ``module``; ``fresh``: one of its own.

        Raises CannotIsolate when none can be started. If the body raises, the child is killed:
        nobody knows what state it is in.
        """
        child = (None if fresh else self._take(module)) or self._start()
        try:
            yield child
        except BaseException:
            self._forget(child)
            raise
        child.tasks += 1
        if fresh or child.tasks >= TASKS or not self._keep(child):
            self._forget(child)

    def retire_idle(self) -> None:
        """End the children that have had nothing to do for a while."""
        now = time.monotonic()
        with self._lock:
            old = [child for child in self._idle if now - child.idle_since > IDLE_S]
            self._idle = [child for child in self._idle if child not in old]
        for child in old:
            child.kill()

    def close(self) -> None:
        """Kill every child, also those that run a task. Nothing can be lent any more."""
        with self._lock:
            self._closed = True
            idle, lent = self._idle, list(self._lent)
            self._idle = []
        for child in idle:
            child.kill()
        for child in lent:
            child.end()
        self._nursery.shutdown(wait=False)

    def _take(self, module: str) -> ChildProcess | None:
        """Return an idle child that lives, best one that has loaded ``module``; None if there is none."""
        with self._lock:
            self._idle.sort(key=lambda child: module in child.modules)
            while self._idle:
                child = self._idle.pop()
                if not child.ended:
                    self._lent.add(child)
                    return child
                child.kill()
        return None

    def _start(self) -> ChildProcess:
        child = self._nursery.submit(ChildProcess).result()
        log.debug("child.started", child=child.pid)
        with self._lock:
            closed = self._closed
            self._lent.add(child)
        if closed:
            self._forget(child)
        return child

    def _keep(self, child: ChildProcess) -> bool:
        child.idle_since = time.monotonic()
        with self._lock:
            if self._closed:
                return False
            self._lent.discard(child)
            self._idle.append(child)
            return True

    def _forget(self, child: ChildProcess) -> None:
        with self._lock:
            self._lent.discard(child)
        child.kill()


_lock = threading.Lock()
_pool: Pool | None = None


def pool() -> Pool:
    """Return this process's pool, made on first use."""
    global _pool  # noqa: PLW0603 - a process has one set of children
    with _lock:
        if _pool is None:
            _pool = Pool()
        return _pool


def close_pool() -> None:
    """Kill the children of this process, if it has any."""
    global _pool
    with _lock:
        found, _pool = _pool, None
    if found:
        found.close()


def retire_idle() -> None:
    """End the children that have had nothing to do for a while, if there are any."""
    if _pool is not None:
        _pool.retire_idle()
