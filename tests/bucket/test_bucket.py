"""A bucket alone: its drafts, which have an end instead of a lock; its errors; its memory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from bucket_server import Server

from actors.files import bucket_client, bucket_draft
from actors.files.bucket import Bucket
from actors.files.bucket_address import Address
from actors.files.bucket_draft import LIFETIME, PART
from actors.files.errors import StorageUnavailable
from actors.files.key import THUMBNAIL

ROOT = Path(__file__).parents[2]
ID = "01998f2e-5c5e-7000-8000-3f2f5a1b9c0d"
OTHER = "01998f2e-5c5e-7000-8000-3f2f5a1b9c0e"
MEGABYTE = 1024 * 1024


def over() -> datetime:
    """Return when no draft that was begun by now can be published any more."""
    return datetime.now(UTC) + LIFETIME + timedelta(minutes=2)


"""When what has been begun now can no longer be published."""


def store(bucket, key, size=7):
    draft = bucket.draft(key)
    for at in range(0, size, MEGABYTE):
        draft.write(bytes(min(MEGABYTE, size - at)))
    draft.publish()
    return draft


def at(bucket, /, **changes):
    """Return ``bucket`` with another address."""
    return replace(bucket, address=replace(bucket.address, **changes))


def test_keys_stand_behind_the_prefix_and_what_else_is_there_is_left_alone(server, bucket):
    name = bucket.address.bucket
    others = [
        f"some/{ID}",
        f"some/prefix/{ID}.part",
        f"some/prefix/sub/{ID}",
        f"x/some/prefix/{ID}",
    ]
    for key in others:
        server.client.put_object(Bucket=name, Key=key, Body=b"somebody else's")
    uploads = [OTHER, f"else/prefix/{OTHER}", "some/prefix/backup.tar"]
    for key in uploads:
        server.client.create_multipart_upload(Bucket=name, Key=key)
    for key in (ID, ID + THUMBNAIL):
        store(bucket, key)

    kept = {key for page in server.client.get_paginator("list_objects_v2").paginate(Bucket=name)
            for key in (found["Key"] for found in page["Contents"])}  # fmt: skip
    assert kept == {*others, f"some/prefix/{ID}", f"some/prefix/{ID}{THUMBNAIL}"}
    assert set(bucket.ids(over())) == {ID}
    assert bucket.clear_drafts(over()) == 0
    bucket.delete(ID)
    assert list(bucket.ids(over())) == []
    assert at(bucket, prefix="").open(ID) is None
    assert server.uploads(name) == uploads


DIES = """
import os, signal, sys
from pathlib import Path
from actors.files.bucket import Bucket
from actors.files.bucket_address import parse
from actors.files.bucket_draft import PART

draft = Bucket(parse(sys.argv[1]), Path(sys.argv[2])).draft(sys.argv[3])
draft.write(bytes(PART + 1))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_cleared_once_nobody_can_publish_it(server, bucket):
    address = bucket.address
    url = f"s3://{address.bucket}/{address.prefix}?endpoint={address.endpoint}"
    done = subprocess.run(
        [sys.executable, "-c", DIES, url, bucket.scratch, ID],
        cwd=ROOT,
        env={**os.environ, "POSTLUDE_DATA_DIR": str(bucket.scratch)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert server.uploads(address.bucket) == [f"some/prefix/{ID}"]

    assert bucket.clear_drafts(over() - timedelta(hours=1)) == 0
    assert bucket.clear_drafts(over()) == 1

    assert server.uploads(address.bucket) == []
    assert bucket.open(ID) is None


@pytest.mark.parametrize("size", [7, PART + 1])
def test_after_its_lifetime_a_draft_cannot_be_published(server, bucket, monkeypatch, size):
    draft = bucket.draft(ID)
    draft.write(bytes(size))
    monkeypatch.setattr(bucket_draft, "LIFETIME", timedelta(0))

    with pytest.raises(StorageUnavailable, match=r"may take 0 days there.*send it again, faster"):
        draft.publish()
    draft.discard()

    assert (server.keys(bucket.address.bucket), server.uploads(bucket.address.bucket)) == ([], [])


def test_a_draft_that_was_cleared_all_the_same_is_not_published_by_halves(bucket):
    draft = bucket.draft(ID)
    draft.write(bytes(PART + 1))
    assert bucket.clear_drafts(over()) == 1

    with pytest.raises(StorageUnavailable, match=r"NoSuchUpload"):
        draft.publish()
    draft.discard()

    assert bucket.open(ID) is None


def test_a_draft_that_is_cleared_before_its_last_request_is_not_taken_for_published(bucket):
    store(bucket, ID, 3)
    draft = bucket.draft(ID)
    draft.write(bytes(PART + 1))
    draft._send()
    assert bucket.clear_drafts(over()) == 1

    with pytest.raises(ClientError, match="NoSuchUpload"):
        draft._complete()


def test_a_file_is_as_old_as_its_upload_so_it_is_no_unknown_one_before_all_uploads_are_over(bucket):
    store(bucket, ID, PART + 1)

    assert list(bucket.ids(over() - timedelta(days=1))) == []
    assert list(bucket.ids(over())) == [ID]


@pytest.mark.parametrize(
    ("variable", "algorithm"), [("when_supported", "CRC32"), ("when_required", None)]
)
def test_an_upload_says_at_its_beginning_which_checksums_its_parts_have(
    server, bucket, monkeypatch, variable, algorithm
):
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", variable)
    bucket = at(bucket, region=variable.replace("_", "-"))  # a client of its own
    draft = bucket.draft(ID)
    draft.write(bytes(PART + 1))

    [upload] = server.client.list_multipart_uploads(Bucket=bucket.address.bucket)["Uploads"]
    assert upload.get("ChecksumAlgorithm") == algorithm

    draft.publish()
    with bucket.open(ID) as file:
        assert len(file.read()) == PART + 1


# Errors


def test_a_server_that_is_down_is_told_with_what_to_do(bucket, wire):
    bucket = at(bucket, endpoint=wire.endpoint)
    draft = bucket.draft(ID)
    draft.write(bytes(PART + 1))
    wire.cut()
    told = (
        rf"in s3://{bucket.address.bucket}/some/prefix at {wire.endpoint}: .*connect.*; start that"
    )

    for use in (
        draft.publish,
        lambda: bucket.open(ID),
        lambda: bucket.delete(ID),
        lambda: list(bucket.ids(over())),
        lambda: bucket.clear_drafts(over()),
    ):
        with pytest.raises(StorageUnavailable, match=told):
            use()
    draft.discard()

    wire.mend()
    assert bucket.open(ID) is None
    draft.discard()
    assert bucket.clear_drafts(over()) == 0


def test_a_bucket_that_is_not_there_is_told_and_is_not_a_file_that_is_not_there(bucket):
    bucket = at(bucket, bucket="not-there")

    for use in (lambda: bucket.open(ID), lambda: store(bucket, ID), lambda: bucket.delete(ID)):
        with pytest.raises(
            StorageUnavailable, match=r"there is no such bucket; make it, or correct"
        ):
            use()


def test_a_server_that_denies_is_told_without_any_secret(tmp_path):
    server = Server(tmp_path / "log", INITIAL_NO_AUTH_ACTION_COUNT="1")
    try:
        bucket = Bucket(Address(server.bucket(), endpoint=server.endpoint), tmp_path)

        for use in (lambda: bucket.open(ID), lambda: store(bucket, ID)):
            with pytest.raises(StorageUnavailable, match=r"access is denied \(\w+\); set") as told:
                use()
            assert "hush" not in f"{told.value} {told.value.__cause__!r}"
            assert "AKIA" not in f"{told.value} {told.value.__cause__!r}"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("RequestTimeTooSkewed", r"clock and that of this machine are too far apart .+; set the"),
        ("ExpiredToken", r"AWS_SESSION_TOKEN has expired .+; start this process with new"),
    ],
)
def test_what_is_wrong_besides_the_rights_is_told(bucket, wire, code, told):
    bucket = at(bucket, endpoint=wire.endpoint)
    wire.denied, wire.code = b"GET /", code

    with pytest.raises(StorageUnavailable, match=told):
        bucket.open(ID)


def test_missing_credentials_are_told_and_looked_for_again(bucket, monkeypatch, tmp_path):
    late = tmp_path / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(late))
    bucket = at(bucket, region="of-its-own")  # a client of its own

    with pytest.raises(StorageUnavailable, match=r"Unable to locate credentials; set AWS_ACCESS"):
        bucket.open(ID)

    late.write_text("[default]\naws_access_key_id = AKIALATE\naws_secret_access_key = hush")
    assert bucket.open(ID) is None


def test_a_profile_that_is_not_there_is_told(bucket, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    bucket = at(bucket, region="of-nobody")  # a client of its own

    with pytest.raises(
        StorageUnavailable, match=r"profile \(nobody\) could not be found; set AWS_"
    ):
        bucket.open(ID)


def test_a_connection_that_breaks_in_mid_download_is_no_short_file(bucket, wire):
    store(bucket, ID, 4 * PART)
    bucket = at(bucket, endpoint=wire.endpoint)
    wire.lose(b"GET /", after=PART)

    with pytest.raises(StorageUnavailable, match=r"cannot read files"):
        bucket.open(ID)

    assert list(bucket.scratch.iterdir()) == []
    with bucket.open(ID) as file:
        assert len(file.read()) == 4 * PART


def test_an_answer_that_was_lost_does_not_lose_the_file(bucket, wire):
    bucket = at(bucket, endpoint=wire.endpoint)
    draft = bucket.draft(ID)
    draft.write(bytes(PART + 1))
    wire.lose(b"POST /")

    draft.publish()

    assert wire.has_lost
    with bucket.open(ID) as file:
        assert len(file.read()) == PART + 1


def test_no_room_to_read_a_file_is_told(bucket):
    store(bucket, ID)
    bucket.scratch.write_text("in the way")

    with pytest.raises(StorageUnavailable, match=r"cannot fetch a file into .*POSTLUDE_DATA_DIR"):
        bucket.open(ID)


# Processes and threads


def test_threads_share_a_client_and_a_forked_child_has_its_own(bucket):
    address = replace(bucket.address, region="unused-so-far")
    together = threading.Barrier(4)

    def get(_):
        together.wait()
        return bucket_client.client(address)

    with ThreadPoolExecutor(4) as threads:
        assert len(set(map(id, list(threads.map(get, range(4)))))) == 1

    code = (
        "import os, sys\n"
        "from actors.files.bucket_address import parse\n"
        "from actors.files.bucket_client import client\n"
        "address = parse(sys.argv[1])\n"
        "mine = client(address)\n"
        "if not os.fork():\n"
        "    os._exit(client(address) is mine)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "s3://files"], cwd=ROOT, check=False)
    assert done.returncode == 0


PASSES = """
import re, sys
from pathlib import Path
from actors.files.bucket import Bucket
from actors.files.bucket_address import parse

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def pass_through(blocks):
    draft = bucket.draft(sys.argv[3])
    for _ in range(blocks):
        draft.write(bytes(262144))
    draft.publish()
    with bucket.open(sys.argv[3]) as file:
        while file.read(1048576):
            pass
        assert file.tell() == blocks * 262144

bucket = Bucket(parse(sys.argv[1]), Path(sys.argv[2]))
pass_through(80)
before = peak()
pass_through(800)
print(peak() - before)
"""


def test_memory_is_flat_whatever_the_size(bucket):
    address = bucket.address
    url = f"s3://{address.bucket}/{address.prefix}?endpoint={address.endpoint}"

    grown = subprocess.check_output(
        [sys.executable, "-c", PASSES, url, bucket.scratch, ID], cwd=ROOT, text=True
    )

    assert int(grown) < 8 * 1024, "kB, between 20 and 200 MB"
    assert list(bucket.scratch.iterdir()) == []


def test_the_libraries_tell_no_secret_even_at_debug(bucket, tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from actors.files.bucket import Bucket\n"
        "from actors.files.bucket_address import parse\n"
        "from postlude import logs\n"
        "from postlude.settings import settings\n"
        "logs.configure(settings(), 'worker')\n"
        f"assert Bucket(parse(sys.argv[1]), Path(sys.argv[2])).open('{ID}') is None\n"
    )
    address = bucket.address
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            f"s3://{address.bucket}?endpoint={address.endpoint}",
            tmp_path,
        ],
        cwd=ROOT,
        env={**os.environ, "POSTLUDE_DATA_DIR": str(tmp_path), "POSTLUDE_LOG_LEVEL": "debug"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert '"level": "debug"' in done.stderr
    assert not re.search(r"hush|AKIA|Signature|[Aa]uthorization", done.stderr)
