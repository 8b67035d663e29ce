"""Talking to a bucket's server: one client per process, and its errors in plain words.

boto3 is loaded when a bucket is used for the first time: 40 MB and half a second, which a process
that keeps files in a folder never pays.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from actors.files.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.exceptions import ClientError
    from types_boto3_s3 import S3Client

    from actors.files.bucket_address import Address

CONNECT_S = 5
READ_S = 30
"""How long a server may keep silent; it also sends something while it puts a large file together."""
ATTEMPTS = 3
"""Together with their pauses, at most 5 seconds if the connection is refused."""
CONNECTIONS = 50
_REFUSALS = {
    "NoSuchBucket": ("there is no such bucket", "make it, or correct POSTLUDE_STORAGE_URL"),
    "NoSuchUpload": ("the upload has been removed there (NoSuchUpload)", "send it again"),
    "RequestTimeTooSkewed": (
        "its clock and that of this machine are too far apart (RequestTimeTooSkewed)",
        "set the one that is wrong",
    ),
    "ExpiredToken": (
        "AWS_SESSION_TOKEN has expired (ExpiredToken)",
        "start this process with new credentials, or give its machine a role",
    ),
}
"""What a server finds wrong by its own word for it, and what to do."""

_making = threading.RLock()
_ENDPOINT = "start that server, or correct POSTLUDE_STORAGE_URL"
_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to those of a user who may read, write, list and "
    "delete there"
)


def client(address: Address) -> S3Client:
    """Return this process's client for ``address``; any number of threads may use it at once."""
    with _making:
        return _client(address.endpoint, address.region)


@contextmanager
def in_plain_words(verb: str, address: Address) -> Iterator[None]:
    """Raise StorageUnavailable for whatever boto3 raises inside; ``verb`` is what was tried."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see the top

    try:
        yield
    except ClientError as error:
        reason, advice = _refusal(error)
        raise _unavailable(verb, address, reason, advice) from error
    except BotoCoreError as error:
        kind = type(error).__name__
        advice = _CREDENTIALS if "Credential" in kind or "Profile" in kind else _ENDPOINT
        raise _unavailable(verb, address, str(error).rstrip("."), advice) from error


def code_of(error: ClientError) -> str:
    """Return what the server calls this error, such as NoSuchUpload."""
    return str(error.response.get("Error", {}).get("Code", ""))


@lru_cache(maxsize=4)
def _client(endpoint: str | None, region: str | None) -> S3Client:
    import boto3  # noqa: PLC0415 - see the top
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import NoCredentialsError  # noqa: PLC0415

    # A session of its own: making clients from the one that threads share is not safe.
    session = boto3.session.Session()
    if session.get_credentials() is None:
        # A client would never look for them again; the machine's role may only be late.
        raise NoCredentialsError
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
    )
    return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)


def _after_fork() -> None:
    """Forget the clients: a child must not write into its parent's connections."""
    _client.cache_clear()
    _making.release()


# No fork while a client is being made: a child would wait for ever for a thread that it has not.
os.register_at_fork(
    before=_making.acquire, after_in_parent=_making.release, after_in_child=_after_fork
)


def _refusal(error: ClientError) -> tuple[str, str]:
    """Return what the server found wrong, and what to do about it."""
    code = code_of(error)
    if code in _REFUSALS:
        return _REFUSALS[code]
    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in {401, 403}:
        return f"access is denied ({code})", _CREDENTIALS
    words = error.response.get("Error", {}).get("Message", "").rstrip(".")
    return f"{code} {words}".strip(), "see what that server's log says about it"


def _unavailable(verb: str, address: Address, reason: str, advice: str) -> StorageUnavailable:
    return StorageUnavailable(f"cannot {verb} files in {address}: {reason}; {advice}")
