"""Files in one folder: complete under their key, or under a name that ends in ``.part``.

A draft is locked by whoever writes it, and the kernel drops the lock of the dead, so what a killed
process left can be told from an upload under way, however slow that is.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import structlog

from actors.files.errors import StorageUnavailable
from actors.files.key import KEY, checked, of_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

log = structlog.get_logger()

_PART = re.compile(rf"{KEY.pattern}\.[0-9a-f]{{16}}\.part")


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder at ``path``, private to this user, which the first draft makes."""

    path: Path

    def draft(self, key: str) -> FolderDraft:
        """Begin to write what will be read under ``key``."""
        final = self._place(key)
        with _in_plain_words("write", self.path):
            self._make()
            return FolderDraft(final)

    def open(self, key: str) -> BinaryIO | None:
        """Open for reading; None if nothing is there. A link is not followed."""
        place = self._place(key)
        with _in_plain_words("read", self.path):
            try:
                return os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW), "rb")
            except FileNotFoundError:
                return None

    def delete(self, file_id: str) -> None:
        """Remove a file and its thumbnail."""
        keys = of_file(file_id)
        with _in_plain_words("write", self.path):
            for key in keys:
                self._place(key).unlink(missing_ok=True)

    def clear_drafts(self, before: datetime) -> int:
        """Remove the drafts of the dead. Between making and locking one, ``before`` protects it."""
        found = [entry for entry in self._entries(before) if _PART.fullmatch(entry.name)]
        with _in_plain_words("write", self.path):
            return sum(_remove_unlocked(entry.path) for entry in found)

    def ids(self, before: datetime) -> Iterator[str]:
        """Return the ids of published files, and of files whose thumbnail is all that is left."""
        for entry in self._entries(before):
            if match := KEY.fullmatch(entry.name):
                yield match[1]

    def _place(self, key: str) -> Path:
        return self.path / checked(key)

    def _make(self) -> None:
        if not self.path.is_dir():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync(self.path.parent)

    def _entries(self, before: datetime) -> Iterator[os.DirEntry[str]]:
        if not self.path.is_dir():
            return
        with _in_plain_words("read", self.path), os.scandir(self.path) as entries:
            for entry in entries:
                if _age(entry) < before.timestamp():
                    yield entry


class FolderDraft:
    """A file on its way to ``final``, under a name of its own until it is complete."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self._part = final.with_name(f"{final.name}.{secrets.token_hex(8)}.part")
        self._folder = final.parent
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(self._part, flags, 0o600), "wb", buffering=0)
        self._published = False
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def write(self, block: bytes) -> None:
        """Append ``block``, all of it."""
        left = memoryview(block)
        with _in_plain_words("write", self._folder):
            while left:
                left = left[self._file.write(left) :]

    def publish(self) -> None:
        """Sync the content, rename, sync the folder. Its age begins now, not with its last byte."""
        with _in_plain_words("write", self._folder):
            os.utime(self._file.fileno())
            os.fsync(self._file.fileno())
            self._part.replace(self._final)
            self._published = True
            _sync(self._folder)
            self._file.close()

    def discard(self) -> None:
        """Remove it; a file that cannot be removed is logged, and swept later."""
        try:
            self._part.unlink(missing_ok=True)
            if self._published:
                self._final.unlink(missing_ok=True)
            self._file.close()
        except OSError as error:
            log.warning("file.not_removed", path=str(self._part), error=str(error))


def _age(entry: os.DirEntry[str]) -> float:
    """Return when it was last written; for what has gone meanwhile, a time that is never old."""
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return float("inf")


def _remove_unlocked(path: str) -> bool:
    """Remove a draft unless somebody writes it; returns whether it was removed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)  # noqa: PTH108 - a scanned entry's path is text
    except (BlockingIOError, FileNotFoundError):
        return False
    else:
        return True
    finally:
        os.close(handle)


@contextmanager
def _in_plain_words(verb: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = (
            f"cannot {verb} files in {folder}: {error.strerror or error}; make room, let this user "
            "write there, or set POSTLUDE_STORAGE_URL to another folder"
        )
        raise StorageUnavailable(message) from error


def _sync(folder: Path) -> None:
    """Make the names in ``folder`` durable; without this a power cut may take a new one back."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
