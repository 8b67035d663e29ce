"""The URL of a bucket: what it may say, and that nothing of it is repeated that could be a secret."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from actors.files.bucket import Bucket
from actors.files.bucket_address import Address
from actors.files.bucket_draft import LARGEST
from actors.files.storage import check, storage
from postlude.errors import SettingsError
from postlude.settings import load

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("s3://files", Address("files"), "s3://files"),
        ("s3://files/", Address("files"), "s3://files"),
        ("s3://my.files/a/b-c", Address("my.files", "a/b-c/"), "s3://my.files/a/b-c"),
        ("s3://files/a/?region=eu-north-1", Address("files", "a/", None, "eu-north-1"), "s3://files/a"),
        (
            "s3://files/a?endpoint=http://127.0.0.1:9000",
            Address("files", "a/", "http://127.0.0.1:9000"),
            "s3://files/a at http://127.0.0.1:9000",
        ),
        (
            "s3://files?region=auto&endpoint=https%3A%2F%2Fs3.example.com%2Fstorage%2F",
            Address("files", "", "https://s3.example.com/storage", "auto"),
            "s3://files at https://s3.example.com/storage",
        ),
        ("s3://files?endpoint=http://[::1]", Address("files", "", "http://[::1]"), "s3://files at http://[::1]"),
        ("s3://files?endpoint=http://a-1.b.", Address("files", "", "http://a-1.b."), "s3://files at http://a-1.b."),
    ],
)  # fmt: skip
def test_a_url_names_bucket_prefix_endpoint_and_region(tmp_path, url, address, shown):
    chosen = load(data_dir=tmp_path, storage_url=url)

    check(chosen)

    assert storage(chosen) == Bucket(address, tmp_path)
    assert str(address) == shown


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("s3:", "it names no bucket"),
        ("s3:///files", "it names no bucket"),
        ("s3:files", "it names no bucket"),
        ("s3://AKIAXXX:hush@files", "it has credentials in it"),
        ("s3://hush@files", "it has credentials in it"),
        ("s3://127.0.0.1:9000/files", "it has a host and port"),
        ("s3://Files", "no name of a bucket"),
        ("s3://x", "no name of a bucket"),
        ("s3://fi%6ces", "no name of a bucket"),
        ("s3://files/../others", "its prefix"),
        ("s3://files//a", "its prefix"),
        ("s3://files/a%00b", "its prefix"),
        ("s3://files/a b", "its prefix"),
        ("s3://files#a", "it has a '#' in it"),
        ("s3://files?endpint=http://x", "the parameter 'endpint', which means nothing"),
        ("s3://files?secret=hush", "the parameter 'secret', which means nothing"),
        ("s3://files?hush", "cannot be read as an address"),
        ("s3://[files", "cannot be read as an address"),
        ("s3://files?region=", "'region' once, and with a value"),
        ("s3://files?region=a&region=b", "'region' once, and with a value"),
        ("s3://files?region=Stockholm", "its region may have"),
        ("s3://files?endpoint=127.0.0.1:9000", "its endpoint must be"),
        ("s3://files?endpoint=ftp://127.0.0.1", "its endpoint must be"),
        ("s3://files?endpoint=http://", "its endpoint must be"),
        ("s3://files?endpoint=http://me:hush@127.0.0.1", "its endpoint must be"),
        ("s3://files?endpoint=http://127.0.0.1?key%3Dhush", "its endpoint must be"),
        ("s3://files?endpoint=http://minio_1:9000", "its endpoint's host may have"),
        ("s3://files?endpoint=http://-minio:9000", "its endpoint's host may have"),
        ("s3://files?endpoint=http://minio..lan", "its endpoint's host may have"),
        ("s3://files?endpoint=http://127.0.0.1:0", "its endpoint must be"),
        ("s3://files?endpoint=http://127.0.0.1:many", "cannot be read as an address"),
    ],
)
def test_another_is_refused_with_what_is_wrong_and_what_to_write_and_not_repeated(
    tmp_path, url, fault
):
    with pytest.raises(SettingsError, match=re.escape(fault)) as refused:
        check(load(data_dir=tmp_path, storage_url=url))

    told = str(refused.value)
    assert told.startswith("POSTLUDE_STORAGE_URL: ")
    assert "write s3://bucket/optional/prefix" in told
    assert "hush" not in told
    assert "AKIAXXX" not in told
    assert refused.value.__suppress_context__


def test_a_limit_beyond_what_a_bucket_takes_is_refused(tmp_path):
    check(load(data_dir=tmp_path, storage_url="s3://files", file_limit=LARGEST))

    with pytest.raises(SettingsError, match=rf"POSTLUDE_FILE_LIMIT: .* at most {LARGEST} bytes"):
        check(load(data_dir=tmp_path, storage_url="s3://files", file_limit=LARGEST + 1))


def import_actors(tmp_path, before="pass", after="pass", **variables):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")}
    return subprocess.run(
        [sys.executable, "-c", f"import sys; {before}; import actors; {after}"],
        cwd=ROOT,
        env=clean | {"POSTLUDE_DATA_DIR": str(tmp_path)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_boto3_a_bucket_is_refused_with_what_to_install(tmp_path):
    missing = "sys.modules['boto3'] = None"

    done = import_actors(tmp_path, missing, POSTLUDE_STORAGE_URL="s3://files")

    assert "SettingsError: POSTLUDE_STORAGE_URL: files are kept in a bucket by boto3" in done.stderr
    assert "pip install boto3" in done.stderr
    assert import_actors(tmp_path, missing).returncode == 0


@pytest.mark.parametrize("url", ["", "s3://files"])
def test_boto3_is_not_loaded_before_a_bucket_is_used(tmp_path, url):
    loaded = "print(*{'boto3', 'botocore', 'urllib3'} & sys.modules.keys())"

    done = import_actors(tmp_path, after=loaded, POSTLUDE_STORAGE_URL=url)

    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
