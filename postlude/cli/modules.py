"""Where modules are looked for that a command names."""

from __future__ import annotations

import sys
from pathlib import Path


def look_here() -> None:
    """Find modules in the folder of the caller first, as ``dramatiq`` and ``uvicorn`` do."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
