"""What can go wrong with the cache itself; what goes wrong while loading is kept in its entries."""

from __future__ import annotations

from typing import ClassVar

from postlude.errors import PostludeError


class CacheUnavailable(PostludeError):
    """Redis did not do what the cache asked of it. Temporary; tasks that meet it are tried again."""

    code: ClassVar[str] = "cache-unavailable"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The cache is unavailable at the moment"
