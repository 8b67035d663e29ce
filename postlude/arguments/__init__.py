"""Arguments and results as JSON: checked at the door, stored by name, typed again in the worker.

``Signature`` belongs to one actor; ``results`` holds what actors return. Nothing here knows the
ledger, HTTP or a process: text in, values out, and the other way round.
"""

from postlude.arguments.signature import Signature

__all__ = ["Signature"]
