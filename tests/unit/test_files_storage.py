"""Files in a folder: complete, private, nothing else. What every storage promises: tests/bucket."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from actors.files.errors import StorageUnavailable
from actors.files.folder import Folder
from actors.files.key import THUMBNAIL
from actors.files.storage import check, storage
from postlude.errors import SettingsError
from postlude.settings import load

ROOT = Path(__file__).parents[2]
ID = "01998f2e-5c5e-7000-8000-3f2f5a1b9c0d"
OTHER = "01998f2e-5c5e-7000-8000-3f2f5a1b9c0e"
LATER = datetime.now(UTC) + timedelta(hours=1)
DIES = """
import os, signal, sys
from pathlib import Path
from actors.files.folder import Folder

draft = Folder(Path(sys.argv[1])).draft(sys.argv[2])
draft.write(b"half of it")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "files")


def store(folder, key, content=b"content"):
    draft = folder.draft(key)
    draft.write(content)
    draft.publish()


def listed(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_a_draft_cannot_be_read_before_it_is_published(folder):
    draft = folder.draft(ID)
    draft.write(b"con")
    draft.write(b"tent")
    assert folder.open(ID) is None
    assert [name.endswith(".part") for name in listed(folder)] == [True]

    draft.publish()

    with folder.open(ID) as file:
        assert file.read() == b"content"
    assert listed(folder) == [ID]


def test_what_is_published_is_on_the_disk_before_it_has_its_name_and_its_name_before_it_returns(
    folder, monkeypatch
):
    draft = folder.draft(ID)
    synced = []
    sync = os.fsync

    def watched(handle):
        synced.append((Path(f"/proc/self/fd/{handle}").readlink(), listed(folder)))
        sync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    draft.write(b"content")
    draft.publish()

    (content, before), (names, after) = synced
    assert (content.suffix, before) == (".part", [content.name])
    assert (names, after) == (folder.path, [ID])


@pytest.mark.parametrize("published", [False, True])
def test_a_draft_that_is_discarded_leaves_nothing(folder, published):
    draft = folder.draft(ID)
    draft.write(b"content")
    if published:
        draft.publish()

    draft.discard()
    draft.discard()

    assert listed(folder) == []


def test_files_and_their_folder_are_private(folder):
    store(folder, ID)

    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert (folder.path / ID).stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_folder_is_not_followed(folder, tmp_path):
    store(folder, OTHER)
    (tmp_path / "ledger").write_text("not ours")
    (folder.path / ID).symlink_to(tmp_path / "ledger")

    with pytest.raises(StorageUnavailable):
        folder.open(ID)
    folder.delete(ID)

    assert (tmp_path / "ledger").read_text() == "not ours"
    assert listed(folder) == [OTHER]


def test_deleting_takes_the_thumbnail_along_and_may_happen_twice(folder):
    for key in (ID, ID + THUMBNAIL, OTHER):
        store(folder, key)

    folder.delete(ID)
    folder.delete(ID)

    assert listed(folder) == [OTHER]


def test_what_a_killed_process_left_is_cleared_but_not_a_draft_under_way(folder):
    done = subprocess.run(
        [sys.executable, "-c", DIES, str(folder.path), ID],
        cwd=ROOT,
        env={**os.environ, "POSTLUDE_DATA_DIR": str(folder.path.parent)},
        check=False,
    )
    assert done.returncode < 0
    draft = folder.draft(OTHER)
    store(folder, ID)
    assert len(listed(folder)) == 3

    assert folder.clear_drafts(LATER - timedelta(hours=2)) == 0
    assert folder.clear_drafts(LATER) == 1

    draft.publish()
    assert listed(folder) == [ID, OTHER]


def test_ids_are_those_of_old_enough_files_and_of_nothing_else_there(folder):
    store(folder, ID + THUMBNAIL)
    store(folder, OTHER)
    draft = folder.draft("01998f2e-5c5e-7000-8000-3f2f5a1b9c0f")
    (folder.path / "README").write_text("somebody else's")

    assert sorted(folder.ids(LATER)) == [ID, OTHER]
    assert list(folder.ids(LATER - timedelta(hours=2))) == []
    draft.discard()


def test_a_folder_that_is_not_there_is_empty(folder):
    assert (list(folder.ids(LATER)), folder.clear_drafts(LATER), folder.open(ID)) == ([], 0, None)
    folder.delete(ID)


def test_a_folder_that_cannot_be_made_is_told_with_what_to_do(tmp_path):
    (tmp_path / "files").write_text("a file is in the way")

    with pytest.raises(StorageUnavailable, match=r"make room.*POSTLUDE_STORAGE_URL"):
        Folder(tmp_path / "files").draft(ID)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    folder = Folder(tmp_path)
    draft = folder.draft(ID)
    draft._file.close()
    draft._file = open("/dev/full", "wb", buffering=0)  # noqa: PTH123, SIM115 # a disk that is full

    with pytest.raises(StorageUnavailable, match=r"No space left"):
        draft.write(b"content")
    draft.discard()

    assert listed(folder) == []


# Settings


def test_files_are_kept_in_the_data_folder_or_where_the_setting_says(tmp_path):
    data = tmp_path / "data"
    elsewhere = tmp_path / "else where"

    assert storage(load(data_dir=data)) == Folder(data / "files")
    chosen = load(data_dir=data, storage_url=elsewhere.as_uri())
    assert storage(chosen) == Folder(elsewhere)


@pytest.mark.parametrize(
    "url",
    ["http://x/y", "relative/folder", "file:relative", "file://host/path", "file:", "file://[x"],
)
def test_a_storage_that_is_not_supported_is_refused_with_those_that_are(tmp_path, url):
    with pytest.raises(SettingsError, match=r"POSTLUDE_STORAGE_URL: .*file:///an/absolute/folder"):
        check(load(data_dir=tmp_path, storage_url=url))


@pytest.mark.parametrize("inside", ["", "deeper/", "deeper/still/"])
@pytest.mark.parametrize("link", [False, True])
def test_a_folder_that_has_the_ledger_in_it_is_refused(tmp_path, inside, link):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files = tmp_path / ("link" if link else "real")
    ledger = f"sqlite:///{tmp_path}/real/{inside}x.db"

    with pytest.raises(SettingsError, match=r"has the ledger in it"):
        check(load(data_dir=tmp_path, database_url=ledger, storage_url=files.as_uri()))


@pytest.mark.parametrize("name", ["with space", "100%", "a%20b"])
def test_a_ledger_of_any_name_is_found(tmp_path, name):
    files = tmp_path / name
    files.mkdir()

    with pytest.raises(SettingsError, match=r"has the ledger in it"):
        check(load(data_dir=files, storage_url=files.as_uri()))
