"""What can go wrong with a file, sorted by what matters: whether trying again would help."""

from __future__ import annotations

from typing import ClassVar

from postlude.errors import PostludeError


class UnusableFile(Exception):
    """Permanent: the file is not what it says, or is made to do harm; its task fails at once."""


class StorageUnavailable(PostludeError):
    """Temporary: the storage could not be written or read (disk full, server down)."""

    code: ClassVar[str] = "storage-unavailable"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "Files cannot be stored at the moment"
