"""What a run was measured on: figures without it mean nothing."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = (
    *("fastapi", "uvicorn", "uvloop", "httptools", "dramatiq", "pika", "celery", "huey", "taskiq"),
    *("taskiq-aio-pika", "arq", "procrastinate", "rq", "pysqlite3"),
)


def describe() -> dict[str, str]:
    """Return date, processor, system, Python and the versions of the packages that matter."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: version for name in PACKAGES if (version := _version(name))},
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"(?m)^model name\s*: (.*)$", text)
    return found[1].strip() if found else platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
