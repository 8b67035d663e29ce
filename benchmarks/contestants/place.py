"""What the processes of a contestant are told: their queue and their folder."""

from __future__ import annotations

import os
from pathlib import Path

QUEUE = os.environ.get("BENCH_QUEUE", "bench")
FOLDER = Path(os.environ.get("BENCH_FOLDER", "."))
