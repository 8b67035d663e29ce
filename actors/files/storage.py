"""Where the bytes of files are kept: in a folder or a bucket. Another kind is one more class here.

A key is a file's id, or that with ``THUMBNAIL`` behind it. Nothing that a client sent is ever part
of a key, and no key can lead to the ledger's files: closing one of those would drop the locks of the
whole process (CORRECTNESS 8).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from sqlalchemy.engine import make_url

from actors.files import bucket_address
from actors.files.bucket import Bucket
from actors.files.bucket_draft import LARGEST
from actors.files.folder import Folder
from postlude.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from postlude.settings import Settings


class Draft(Protocol):
    """Something that is being written. Only one thread at a time may use it."""

    def write(self, block: bytes) -> None:
        """Append ``block``; raise StorageUnavailable if that fails."""

    def publish(self) -> None:
        """Make it readable under its key, durably: a power cut after this takes nothing back."""

    def discard(self) -> None:
        """Remove it, published or not. May be called again; never raises."""


class Storage(Protocol):
    """Keeps bytes under keys. Every method but ``draft`` may be called twice, by many at once."""

    def draft(self, key: str) -> Draft:
        """Begin to write; nothing can be read under ``key`` before the draft is published."""

    def open(self, key: str) -> BinaryIO | None:
        """Open for reading, None if nothing is there; raise StorageUnavailable otherwise."""

    def delete(self, file_id: str) -> None:
        """Remove a file and what stands beside it; what is not there is removed already."""

    def clear_drafts(self, before: datetime) -> int:
        """Remove drafts that nobody writes any more, last written before then; return how many."""

    def ids(self, before: datetime) -> Iterator[str]:
        """Return the ids of files that were surely published before then, some perhaps twice."""


def storage(settings: Settings) -> Storage:
    """Return the storage that ``settings`` ask for; SettingsError if they make no sense."""
    if settings.storage_url.lower().startswith("s3:"):
        return _bucket(settings)
    return Folder(_folder(settings))


def check(settings: Settings) -> None:
    """Raise SettingsError, naming the variable, if no file could be stored with ``settings``.

    Asks no server: one that is down when a process starts is no reason not to start.
    """
    if isinstance(storage(settings), Bucket) and not find_spec("boto3"):
        message = (
            "POSTLUDE_STORAGE_URL: files are kept in a bucket by boto3, which is not installed; "
            "install what requirements.lock names, or: pip install boto3"
        )
        raise SettingsError(message)


def _bucket(settings: Settings) -> Bucket:
    address = bucket_address.parse(settings.storage_url)
    if settings.file_limit > LARGEST:
        message = f"POSTLUDE_FILE_LIMIT: a file in a bucket has at most {LARGEST} bytes; write less"
        raise SettingsError(message)
    return Bucket(address, settings.data_dir)


def _folder(settings: Settings) -> Path:
    path = _chosen(settings)
    ledger = Path(make_url(settings.ledger_url).database or "").resolve()
    if ledger.is_relative_to(path):
        message = (
            f"POSTLUDE_STORAGE_URL: {path} has the ledger in it; give files a folder of their own"
        )
        raise SettingsError(message)
    return path


def _chosen(settings: Settings) -> Path:
    if not settings.storage_url:
        return (settings.data_dir / "files").resolve()
    scheme = settings.storage_url.partition(":")[0]
    try:
        url = urlsplit(settings.storage_url)
    except ValueError:
        url = urlsplit("")
    path = Path(unquote(url.path))
    if url.scheme != "file" or url.netloc not in {"", "localhost"} or not path.is_absolute():
        message = (
            f"POSTLUDE_STORAGE_URL: {scheme[:20]!r} with what follows it is no storage that is "
            "supported; leave it unset for {data_dir}/files, or write file:///an/absolute/folder or "
            "s3://bucket"
        )
        raise SettingsError(message)
    return path.resolve()
