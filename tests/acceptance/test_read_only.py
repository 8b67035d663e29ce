"""A data folder that may not be written: who starts there says why not, who runs there refuses."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture
def humble(site):
    """Make a site whose processes have to ask for permission, as those of most users have."""
    if os.geteuid():
        return site
    setpriv = shutil.which("setpriv")
    if not setpriv:
        pytest.skip(
            "root may write anywhere; setpriv (util-linux) would make it humble: install it"
        )
    before = (setpriv, "--bounding-set=-dac_override,-dac_read_search")
    return lambda **wanted: site(before=before, **wanted)


def seal(*paths):
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)


def check_refusal(site, *command):
    """See that a program ends at once, with one line that names the folder and the reason."""
    before = sorted(site.data.iterdir())

    done = site.run(*command)

    said = done.stdout + done.stderr
    assert done.returncode not in {0, -9}, said
    assert "Traceback" not in said
    [told] = [line for line in said.splitlines() if "cannot be" in line or "could not be" in line]
    assert str(site.data) in told
    assert any(reason in told for reason in ("ermission denied", "unable to open", "readonly"))
    assert sorted(site.data.iterdir()) == before


@pytest.mark.parametrize("command", ["run", "migrate"])
def test_where_nothing_may_be_made_nothing_starts(humble, command):
    site = humble()
    site.data.mkdir()
    seal(site.data)

    check_refusal(site, "postlude.cli", command)


def test_whoever_may_not_write_the_ledger_says_so(humble):
    site = humble()
    site.migrate()
    seal(site.data / "postlude.db", site.data)

    check_refusal(site, "uvicorn", "api:app")
    check_refusal(site, "dramatiq", "actors", "--processes", "1", "--threads", "1")
    check_refusal(site, "scheduler")


def test_uploads_and_mail_need_folders_that_may_be_written(humble):
    site = humble()
    site.migrate()
    api, worker = site.start_api(), site.start_worker()
    for name in ("files", "mail"):
        (site.data / name).mkdir()
        seal(site.data / name)

    upload = site.web.post("/files", files={"file": ("a.txt", b"content")})
    options = {"min_backoff": "20ms", "max_backoff": "50ms", "max_retries": 1000}
    args = {"email": "ada@example.com", "message": "hello"}
    mail = site.web.post(
        "/v1/actors/send_notification/tasks", json={"args": args, "options": options}
    )
    url = mail.headers["location"]
    failed = site.until(lambda: site.task(url)["attempts"])[0]

    assert (upload.status_code, upload.json()["code"]) == (503, "storage-unavailable")
    assert f"{site.data}/files: Permission denied" in upload.json()["detail"]
    assert "POSTLUDE_STORAGE_URL" in upload.json()["detail"]
    assert f"{site.data}/mail: Permission denied" in failed["error_message"]
    assert len(site.web.get("/v1/tasks").json()["items"]) == 1
    for name in ("files", "mail"):
        (site.data / name).chmod(0o755)
    assert site.ended(url)["state"] == "succeeded"
    assert site.web.post("/files", files={"file": ("a.txt", b"content")}).status_code == 202
    assert (api.poll(), worker.poll()) == (None, None)
