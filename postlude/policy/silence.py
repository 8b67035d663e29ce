"""When is a process dead? When its heartbeat has stood still for the lease, on one observer's clock.

No clock of another machine is read: the observer remembers when it saw the counter change last.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Watch:
    """What one observer has seen of the heartbeats of others; monotonic seconds throughout."""

    lease_s: float
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    def silent(self, heartbeats: dict[str, int], now: float) -> set[str]:
        """Note ``heartbeats`` (id → counter) and return the ids that have not moved for the lease."""
        self._seen = {
            id_: self._seen[id_]
            if id_ in self._seen and self._seen[id_][0] == beat
            else (beat, now)
            for id_, beat in heartbeats.items()
        }
        return {id_ for id_, (_, since) in self._seen.items() if now - since > self.lease_s}
