"""Which task is this thread running? Dramatiq's own answer, also right after a skipped one."""

from __future__ import annotations

from dramatiq.middleware import CurrentMessage as DramatiqCurrentMessage


class CurrentMessage(DramatiqCurrentMessage):
    """Dramatiq's ``CurrentMessage``, which forgets the message after a skip, too."""

    after_skip_message = DramatiqCurrentMessage.after_process_message
