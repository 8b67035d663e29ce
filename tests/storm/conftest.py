"""What the storm's parts are found by; its tests share the processes of the acceptance tests."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.with_name("acceptance"))]
