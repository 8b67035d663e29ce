"""When is a process dead? When its heartbeat has stood still for the lease, on one observer's clock.

No clock of another machine is read: the observer remembers when it saw the counter change last.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Watch:
    """What one observer has seen of the heartbeats of others; monotonic seconds throughout.

    Only observed time counts: an observer that was stopped itself has seen nothing meanwhile, so one
    look adds ``blink_s`` at most.
    """

    lease_s: float
    blink_s: float
    _silence: dict[str, tuple[int, float]] = field(default_factory=dict)
    _last: float | None = None

    def silent(self, heartbeats: dict[str, int], now: float, *, deaf: bool = False) -> set[str]:
        """Note ``heartbeats`` (id → counter) and return the ids that have not moved for the lease.

        ``deaf``: the observer's own heartbeat does not get through either, so the silence of the
        others says nothing.
        """
        span = 0.0 if self._last is None or deaf else min(now - self._last, self.blink_s)
        self._last = now
        before, self._silence = self._silence, {}
        for id_, beat in heartbeats.items():
            seen, silence = before.get(id_, (None, 0.0))
            self._silence[id_] = (beat, silence + span if seen == beat else 0.0)
        return {id_ for id_, (_, silence) in self._silence.items() if silence > self.lease_s}
