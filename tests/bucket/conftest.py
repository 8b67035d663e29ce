"""A server of buckets for the tests to fill, and both kinds of storage."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from actors.files.bucket import Bucket
from actors.files.bucket_address import Address
from actors.files.folder import Folder

sys.path.insert(0, str(Path(__file__).parents[1] / "acceptance"))
sys.path.insert(0, str(Path(__file__).parent))

from bucket_server import Server, Wire
from installation import Site


@pytest.fixture(scope="session", autouse=True)
def credentials(tmp_path_factory):
    """Let no test find anybody's real ones."""
    nothing = str(tmp_path_factory.mktemp("aws") / "nothing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTEST")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", nothing)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", nothing)
        yield


@pytest.fixture(scope="session")
def server(credentials, tmp_path_factory):
    """Return a server whose lists have pages of two."""
    server = Server(tmp_path_factory.mktemp("s3") / "log", MOTO_S3_DEFAULT_MAX_KEYS="2")
    yield server
    server.close()


@pytest.fixture
def wire(server):
    wire = Wire(server.port)
    yield wire
    wire.cut()


@pytest.fixture
def bucket(server, tmp_path):
    return Bucket(Address(server.bucket(), "some/prefix/", server.endpoint), tmp_path / "scratch")


@pytest.fixture(params=["folder", "bucket"])
def kept(request, tmp_path):
    """Return each kind of storage, empty."""
    return (
        Folder(tmp_path / "files")
        if request.param == "folder"
        else request.getfixturevalue("bucket")
    )


@pytest.fixture
def site(server, wire, tmp_path):
    """Return an installation that keeps its files in a bucket, at the end of a wire."""
    bucket = server.bucket()
    site = Site(tmp_path, POSTLUDE_STORAGE_URL=f"s3://{bucket}/files?endpoint={wire.endpoint}")
    site.bucket = bucket
    site.migrate()
    yield site
    site.close()
