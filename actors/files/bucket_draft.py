"""A file on its way into a bucket, in parts: nothing can be read before the last request is answered.

At most one part is in memory. An upload has no lock that says who writes it; instead it has an end:
:data:`LIFETIME` after it began it cannot be published any more, so whoever finds an older one may
remove it, and a file that is older than that has long been known to the ledger, or never will be.
"""

from __future__ import annotations

import io
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from actors.files.bucket_client import client, code_of, in_plain_words
from actors.files.errors import StorageUnavailable

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef, UploadPartOutputTypeDef

    from actors.files.bucket_address import Address

log = structlog.get_logger()

PART = 8 * 1024 * 1024
"""In bytes. All but the last are as large, which some servers ask for."""
MOST_PARTS = 10_000
LARGEST = PART * MOST_PARTS
"""The largest file, in bytes: 78 GiB."""
LIFETIME = timedelta(days=7)
"""1 GiB in a week is 1.8 kB a second: a client that slow has other worries."""


class BucketDraft:
    """What will be read under ``key``, a full one, once it is published."""

    def __init__(self, address: Address, key: str) -> None:
        self._address = address
        self._bucket = address.bucket
        self._key = key
        self._begun = time.monotonic()
        self._held = io.BytesIO()
        self._size = 0
        self._upload = ""
        self._parts: list[CompletedPartTypeDef] = []
        # Whether it may be readable: from when that was asked for, whatever was answered.
        self._shown = False

    def write(self, block: bytes) -> None:
        """Append ``block``; a part that is full is sent when more comes."""
        left = memoryview(block)
        while left:
            if self._held.tell() == PART:
                with in_plain_words("write", self._address):
                    self._send()
            room = PART - self._held.tell()
            self._held.write(left[:room])
            left = left[room:]
        self._size += len(block)

    def publish(self) -> None:
        """Have the server put it together, or send it as a whole if it is one part.

        An S3 answers only once it has stored it for good.
        """
        if time.monotonic() - self._begun > LIFETIME.total_seconds():
            message = (
                f"cannot write files in {self._address}: an upload may take {LIFETIME.days} days there, "
                "and this one took longer; send it again, faster"
            )
            raise StorageUnavailable(message)
        with in_plain_words("write", self._address):
            if self._upload:
                self._send()
                self._complete()
            else:
                self._held.seek(0)
                self._shown = True
                client(self._address).put_object(
                    Bucket=self._bucket, Key=self._key, Body=self._held
                )
        self._held.close()

    def discard(self) -> None:
        """Remove it; what cannot be removed is logged, and swept later."""
        try:
            with in_plain_words("write", self._address):
                server = client(self._address)
                if self._upload:
                    abort(server, self._bucket, self._key, self._upload)
                    self._upload = ""
                if self._shown:
                    server.delete_object(Bucket=self._bucket, Key=self._key)
                    self._shown = False
        except StorageUnavailable as error:
            log.warning("file.not_removed", key=self._key, error=str(error))

    def _send(self) -> None:
        """Send what is held as the next part."""
        server = client(self._address)
        if not self._upload:
            self._upload = _begun(server, self._bucket, self._key)
        number = len(self._parts) + 1
        self._held.seek(0)
        answer = server.upload_part(
            Bucket=self._bucket,
            Key=self._key,
            UploadId=self._upload,
            PartNumber=number,
            Body=self._held,
        )
        self._parts.append(_completed(number, answer))
        self._held = io.BytesIO()

    def _complete(self) -> None:
        from botocore.exceptions import ClientError  # noqa: PLC0415 - see bucket_client

        server = client(self._address)
        self._shown = True
        try:
            server.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload,
                MultipartUpload={"Parts": self._parts},
            )
        except ClientError as error:
            # The answer to the first attempt was lost, and the second found it done.
            if code_of(error) != "NoSuchUpload" or not self._is_there(server):
                raise
        self._upload = ""

    def _is_there(self, server: S3Client) -> bool:
        from botocore.exceptions import ClientError  # noqa: PLC0415 - see bucket_client

        try:
            return (
                server.head_object(Bucket=self._bucket, Key=self._key)["ContentLength"]
                == self._size
            )
        except ClientError:
            return False


def abort(server: S3Client, bucket: str, key: str, upload: str) -> None:
    """Remove an upload with its parts; one that is not there is removed already."""
    try:
        server.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
    except server.exceptions.NoSuchUpload:
        return


def _begun(server: S3Client, bucket: str, key: str) -> str:
    """Begin an upload and return its id. S3 takes no checksums of parts unless told of them here."""
    config = server.meta.config
    # The option is newer than its types.
    if config.request_checksum_calculation == "when_supported":  # type: ignore[attr-defined]
        told = server.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="CRC32")
    else:
        told = server.create_multipart_upload(Bucket=bucket, Key=key)
    return told["UploadId"]


def _completed(number: int, answer: UploadPartOutputTypeDef) -> CompletedPartTypeDef:
    """Return how a part is named in the end: by its number, ETag and the checksum, if it has one."""
    part: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
    if "ChecksumCRC32" in answer:
        part["ChecksumCRC32"] = answer["ChecksumCRC32"]
    return part
