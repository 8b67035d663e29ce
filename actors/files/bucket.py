"""Files in a bucket of an S3, or of a server that speaks its protocol.

Under their key, behind the prefix. What else is in the bucket is left alone, and neither listed nor
deleted. Of an upload that has not been published nothing can be read.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, BinaryIO

from actors.files.bucket_client import client, in_plain_words
from actors.files.bucket_draft import LIFETIME, BucketDraft, abort
from actors.files.errors import StorageUnavailable
from actors.files.key import KEY, checked, of_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from actors.files.bucket_address import Address

_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bucket:
    """The bucket at ``address``. What is read from it passes through a file in ``scratch``."""

    address: Address
    scratch: Path

    def draft(self, key: str) -> BucketDraft:
        """Begin to write what will be read under ``key``; asks the server nothing yet."""
        return BucketDraft(self.address, self._place(key))

    def open(self, key: str) -> BinaryIO | None:
        """Fetch it for reading, into a file without a name; None if nothing is there.

        As a whole, because what reads files takes an error in the middle for a damaged file, which
        is final, where the server was only out of reach.
        """
        place = self._place(key)
        with _room(self.scratch), in_plain_words("read", self.address):
            server = client(self.address)
            try:
                answer = server.get_object(Bucket=self.address.bucket, Key=place)
            except server.exceptions.NoSuchKey:
                return None
            with closing(answer["Body"]) as body:
                return self._copied(body.iter_chunks(_BLOCK))

    def delete(self, file_id: str) -> None:
        """Remove a file and its thumbnail."""
        keys = of_file(file_id)
        with in_plain_words("write", self.address):
            for key in keys:
                client(self.address).delete_object(Bucket=self.address.bucket, Key=self._place(key))

    def clear_drafts(self, before: datetime) -> int:
        """Remove the uploads that can no longer be published: those begun a LIFETIME before then."""
        address, removed = self.address, 0
        with in_plain_words("write", self.address):
            server = client(address)
            # Without the prefix: MinIO takes it for a whole key.
            pages = server.get_paginator("list_multipart_uploads").paginate(Bucket=address.bucket)
            for upload in (upload for page in pages for upload in page.get("Uploads", [])):
                if self._key(upload["Key"]) and upload["Initiated"] < before - LIFETIME:
                    abort(server, address.bucket, upload["Key"], upload["UploadId"])
                    removed += 1
        return removed

    def ids(self, before: datetime) -> Iterator[str]:
        """Return the ids of files, and thumbnails left alone, that were begun a LIFETIME before then.

        An S3 dates a file that came in parts by when its upload began, not when it was published.
        """
        with in_plain_words("read", self.address):
            pages = (
                client(self.address)
                .get_paginator("list_objects_v2")
                .paginate(Bucket=self.address.bucket, Prefix=self.address.prefix)
            )
            for found in (found for page in pages for found in page.get("Contents", [])):
                key = self._key(found["Key"])
                if key and found["LastModified"] < before - LIFETIME:
                    yield key

    def _place(self, key: str) -> str:
        return self.address.prefix + checked(key)

    def _key(self, place: str) -> str | None:
        """Return the id of the file that ``place`` belongs to, None if it belongs to somebody else."""
        prefix = self.address.prefix
        match = KEY.fullmatch(place, len(prefix)) if place.startswith(prefix) else None
        return match and match[1]

    def _copied(self, blocks: Iterator[bytes]) -> BinaryIO:
        self.scratch.mkdir(parents=True, exist_ok=True)
        file = TemporaryFile(dir=self.scratch)  # noqa: SIM115 - for the caller to close
        try:
            for block in blocks:
                file.write(block)
            file.seek(0)
        except BaseException:  # also an interrupt
            file.close()
            raise
        return file


@contextmanager
def _room(scratch: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = (
            f"cannot fetch a file into {scratch}: {error.strerror or error}; make room there, let "
            "this user write there, or set POSTLUDE_DATA_DIR to another folder"
        )
        raise StorageUnavailable(message) from error
