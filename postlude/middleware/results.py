"""Results over the ledger: ``message.get_result()`` and ``GET /v1/tasks/{id}`` read the same column."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq.results import ResultBackend

from postlude.arguments.results import BadResult, encode_result
from postlude.settings import settings

if TYPE_CHECKING:
    from dramatiq import Message

log = structlog.get_logger()


class LedgerResults(ResultBackend):
    """Hands results to the task's outcome, which stores them; a time-to-live is the task's retention."""

    def store_result(self, message: Any, result: Any, ttl: int) -> None:
        """Keep ``result`` for the outcome.

        One that has no JSON form is dropped, saying so: the work is done, and doing it again would
        not help.
        """
        del ttl
        if result is None:
            return
        try:
            message.result = encode_result(result, settings().result_limit)
        except BadResult as error:
            log.warning("task.result_dropped", task_id=message.message_id, error=str(error))

    def store_exception(self, message: Any, exception: Exception, ttl: int) -> None:
        """Do nothing: the attempt's record has what it raised."""

    def get_result(
        self, message: Message[Any], *, block: bool = False, timeout: int | None = None
    ) -> Any:
        """Return the result; raises Dramatiq's ResultMissing, ResultTimeout or ResultFailure."""
        return import_module("postlude.results").wait_for(message, block=block, timeout=timeout)
