"""A profile as the result of a task, which the ledger keeps small."""

from __future__ import annotations

import json
from typing import Any


def fitting(profile: dict[str, Any], limit: int) -> dict[str, Any]:
    """Return ``profile`` if its JSON has at most ``limit`` bytes, else with a count of columns."""
    columns = profile.get("columns")
    if columns is None or len(json.dumps(profile)) <= limit:
        return profile
    return {**profile, "columns": len(columns)}
