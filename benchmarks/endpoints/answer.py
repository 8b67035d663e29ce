"""What every endpoint answers."""

from __future__ import annotations

Answer = dict[str, str]
ANSWER: Answer = {"message": "Notification sent in the background"}
PATH = "/tasks/{number}"
ACCEPTED = 202
