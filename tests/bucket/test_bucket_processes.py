"""Files in a bucket through real processes, whose server goes away and comes back."""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from actors.files.bucket_draft import PART

ROOT = Path(__file__).parents[2]
MEGABYTE = 1024 * 1024
SWEEP = """
from datetime import UTC, datetime, timedelta
from functools import partial
from actors.files import retention
from actors.files.storage import storage
from postlude import process
from postlude.process import current
from postlude.settings import settings

ledger, kept = current().ledger, storage(settings())
then = datetime.now(UTC) + timedelta(days={days})
print(retention.delete_outdated(ledger, kept, then), retention.delete_abandoned(ledger, kept, then))
process.close()
"""


def sweep(site, days):
    """Delete as one would so many days from now; return how many files, and how many remains."""
    code = SWEEP.format(days=days)
    told = subprocess.check_output(
        [sys.executable, "-c", code], cwd=ROOT, env=site.environment, text=True
    )
    return [int(word) for word in told.split()]


CLEAN = """
from actors.files import delete_old_files
from postlude import process

try:
    delete_old_files.fn()
finally:
    process.close()
"""


def upload(site, name, content):
    return site.web.post("/files", files={"file": (name, content)})


def picture(side=1200):
    written = io.BytesIO()
    Image.effect_noise((side, side), 99).save(written, "PNG")
    return written.getvalue()


def test_an_upload_is_looked_at_gets_its_thumbnail_and_is_deleted_in_the_end(site, server):
    site.start_api()
    site.start_worker()
    content = picture(4000)
    assert len(content) > PART

    answer = upload(site, "noise.png", content)
    assert answer.status_code == 202, answer.text
    file = answer.json()["file"]
    assert site.ended(answer.json()["tasks"][0]["url"])["state"] == "succeeded"

    looked_at = site.web.get(file["url"]).json()
    assert (looked_at["state"], looked_at["type"]) == ("processed", "image/png")
    assert looked_at["profile"]["width"] == 4000
    assert looked_at["sha256"] == hashlib.sha256(content).hexdigest()
    keys = [f"files/{file['id']}", f"files/{file['id']}.thumbnail.jpg"]
    assert server.keys(site.bucket) == keys
    stored = [server.client.get_object(Bucket=site.bucket, Key=key)["Body"].read() for key in keys]
    assert stored[0] == content
    with Image.open(io.BytesIO(stored[1])) as thumbnail:
        assert max(thumbnail.size) == 256
    assert not (site.data / "files").exists()

    assert sweep(site, days=-1) == [0, 0]
    assert server.keys(site.bucket) == keys
    assert sweep(site, days=31) == [1, 0]
    assert server.keys(site.bucket) == []
    assert site.web.get(file["url"]).status_code == 404


def test_files_whose_time_is_over_are_deleted_although_the_bucket_may_not_be_listed(
    site, server, wire
):
    site.start_api()
    site.start_worker()
    accepted = upload(site, "a.txt", b"one two\n").json()
    site.ended(accepted["tasks"][0]["url"])
    wire.denied = b"GET /" + site.bucket.encode() + b"?"

    done = subprocess.run(
        [sys.executable, "-c", CLEAN],
        cwd=ROOT,
        env=site.environment | {"POSTLUDE_KEEP_FILES": "1ms"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "access is denied (AccessDenied)" in done.stderr
    assert server.keys(site.bucket) == []
    assert site.web.get(accepted["file"]["url"]).status_code == 404


def begun(site, size):
    """Send the beginning of an upload, whose connection stays open."""
    client = socket.create_connection(("127.0.0.1", site.port))
    client.sendall(
        b"POST /files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
        + bytes(size)
    )
    return client


def test_an_api_killed_in_mid_upload_leaves_nothing_served_and_in_the_end_nothing_at_all(
    site, server
):
    api = site.start_api()
    with begun(site, PART + 3 * MEGABYTE):
        [left] = site.until(lambda: server.uploads(site.bucket))
        site.kill(api)

    site._running.remove(api)
    site.start_api()
    assert site.web.get(f"/files/{left.removeprefix('files/')}").status_code == 404
    assert site.web.get("/v1/tasks").json()["items"] == []
    assert server.keys(site.bucket) == []
    assert sweep(site, days=6) == [0, 0]
    assert server.uploads(site.bucket) == [left]
    assert sweep(site, days=8) == [0, 1]
    assert server.uploads(site.bucket) == []


def test_a_client_that_hangs_up_in_mid_upload_leaves_nothing(site, server):
    site.start_api()
    with begun(site, PART + 3 * MEGABYTE):
        site.until(lambda: server.uploads(site.bucket))

    site.until(lambda: not server.uploads(site.bucket))
    assert server.keys(site.bucket) == []


@pytest.mark.parametrize("size", [7, PART + 1])
def test_while_the_server_is_down_an_upload_is_refused_and_nothing_is_stored(
    site, server, wire, size
):
    site.start_api()
    wire.cut()

    refused = upload(site, "a.bin", bytes(size))

    assert (refused.status_code, refused.json()["code"]) == (503, "storage-unavailable")
    assert f"cannot write files in s3://{site.bucket}/files at" in refused.json()["detail"]
    assert site.web.get("/v1/tasks").json()["items"] == []
    wire.mend()
    assert (server.keys(site.bucket), server.uploads(site.bucket)) == ([], [])
    assert upload(site, "a.bin", bytes(size)).status_code == 202
    assert "hush" not in site.log.read_text()


def test_a_task_whose_server_is_down_is_retried_until_it_is_back(site, wire):
    site.start_api()
    accepted = upload(site, "a.txt", b"one two\n").json()
    wire.cut()
    site.start_worker()

    url = accepted["tasks"][0]["url"]
    [failed, *_] = site.until(lambda: site.task(url)["attempts"])
    assert failed["error_type"] == "StorageUnavailable"
    assert "start that server" in failed["error_message"]
    wire.mend()

    task = site.ended(url)
    assert (task["state"], task["result"]["words"]) == ("succeeded", 2)


def family(pid):
    """Return a process and all that descend from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(relative for child in children for relative in family(int(child)))]


def memory(pid):
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def test_memory_is_flat_while_a_large_file_is_uploaded_and_looked_at(site, server):
    api = site.start_api()
    worker = site.start_worker()

    def looked_at(blocks):
        accepted = upload(site, "large.bin", io.BytesIO(os.urandom(MEGABYTE) * blocks))
        assert accepted.status_code == 202, accepted.text
        assert site.ended(accepted.json()["tasks"][0]["url"])["state"] == "succeeded"

    looked_at(24)
    pids = [api.pid, *family(worker.pid)]
    before = {pid: memory(pid) for pid in pids}
    looked_at(200)

    growth = {pid: memory(pid) - early for pid, early in before.items()}
    assert max(growth.values()) < 30 * MEGABYTE, growth
