"""Results over the ledger: ``message.get_result()`` and ``GET /v1/tasks/{id}`` read one column."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dramatiq.results import ResultBackend

if TYPE_CHECKING:
    from dramatiq import Message


class LedgerResults(ResultBackend):
    """Hands results to the task's outcome, which stores them; their time-to-live is its retention."""

    def store_result(self, message: Any, result: Any, ttl: int) -> None:
        """Keep ``result`` for the outcome of ``message``, a delivery."""
        del ttl
        message.keep_result(result)

    def store_exception(self, message: Any, exception: Exception, ttl: int) -> None:
        """Do nothing: the attempt's record has what it raised."""

    def get_result(
        self, message: Message[Any], *, block: bool = False, timeout: int | None = None
    ) -> Any:
        """Return the result; raises Dramatiq's ResultMissing, ResultTimeout or ResultFailure."""
        return import_module("postlude.results").wait_for(
            message.message_id, block=block, timeout=timeout
        )
