"""What somebody outside wants of the supervisor: nothing, that it drains, that it ends at once."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any, Self

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Counts signals while it is entered, and makes ``wakeup`` readable at each of them.

    Belongs to the main thread. A child's death is such a signal too.
    """

    def __init__(self) -> None:
        self._asked = 0
        self._interrupts = 0
        self._before: dict[int, Any] = {}
        self._read, self._write = os.pipe()
        self._wakeup_before = -1

    @property
    def drain(self) -> bool:
        """Tell whether we were asked to stop."""
        return self._asked > 0

    @property
    def at_once(self) -> bool:
        """Tell whether Ctrl-C was pressed after we had been asked already."""
        return self._interrupts > 0 and self._asked > 1

    @property
    def wakeup(self) -> int:
        """Return a descriptor that is readable once a signal has come; see :meth:`rest`."""
        return self._read

    def rest(self) -> None:
        """Empty ``wakeup``."""
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return

    def __enter__(self) -> Self:
        """Take the signals over."""
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (*_ASKING, signal.SIGCHLD):
            self._before[number] = signal.signal(number, self._count)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._read)
        os.close(self._write)

    def _count(self, number: int, _frame: FrameType | None) -> None:
        if number in _ASKING:
            self._asked += 1
            self._interrupts += number == signal.SIGINT
