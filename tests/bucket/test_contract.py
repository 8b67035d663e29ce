"""What every storage promises, whichever it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from actors.files.bucket_draft import LIFETIME, PART
from actors.files.key import THUMBNAIL

ID = "01998f2e-5c5e-7000-8000-3f2f5a1b9c0d"
OTHERS = [f"01998f2e-5c5e-7000-8000-3f2f5a1b9c1{n}" for n in range(5)]
NOW = datetime.now(UTC)
LATER = NOW + LIFETIME + timedelta(hours=1)
SMALL = b"content"
LARGE = bytes(range(256)) * (2 * PART // 256) + b"and a little more"
SIZES = pytest.mark.parametrize(
    "content",
    [
        pytest.param(SMALL, id="small"),
        pytest.param(LARGE[:PART], id="a part"),
        pytest.param(LARGE[: PART + 1], id="a part and a byte"),
        pytest.param(LARGE, id="large"),
    ],
)


def store(kept, key, content=SMALL):
    draft = written(kept, key, content)
    draft.publish()
    return draft


def written(kept, key, content):
    draft = kept.draft(key)
    for at in range(0, len(content), 1_000_003):
        draft.write(content[at : at + 1_000_003])
    return draft


def content_of(kept, key):
    file = kept.open(key)
    if file is None:
        return None
    with file:
        return file.read()


@SIZES
def test_a_draft_cannot_be_read_before_it_is_published(kept, content):
    draft = written(kept, ID, content)
    assert kept.open(ID) is None
    assert list(kept.ids(LATER)) == []

    draft.publish()

    assert content_of(kept, ID) == content
    assert list(kept.ids(LATER)) == [ID]


@SIZES
@pytest.mark.parametrize("published", [False, True])
def test_a_draft_that_is_discarded_leaves_nothing(kept, published, content):
    draft = written(kept, ID, content)
    if published:
        draft.publish()

    draft.discard()
    draft.discard()

    assert kept.open(ID) is None
    assert list(kept.ids(LATER)) == []
    assert kept.clear_drafts(LATER) == 0


def test_what_is_opened_can_be_read_from_anywhere_as_often_as_one_likes(kept):
    store(kept, ID, LARGE)

    with kept.open(ID) as file:
        assert file.seekable()
        assert file.read(5) == LARGE[:5]
        file.seek(-6, 2)
        assert file.read() == b"e more"
        file.seek(PART - 2)
        assert file.read(4) == LARGE[PART - 2 : PART + 2]
        file.seek(0)
        assert file.read() == LARGE


def test_what_is_opened_stays_whole_although_it_is_deleted(kept):
    store(kept, ID)

    with kept.open(ID) as file:
        kept.delete(ID)
        assert file.read() == SMALL


def test_many_may_use_it_at_once(kept):
    with ThreadPoolExecutor(len(OTHERS)) as threads:
        for _ in threads.map(lambda key: store(kept, key, key.encode() * 9), OTHERS):
            pass
        assert list(threads.map(lambda key: content_of(kept, key), OTHERS)) == [
            key.encode() * 9 for key in OTHERS
        ]


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "../postlude.db",
        "postlude.db",
        f"../{ID}",
        f"{ID}/..",
        f"{ID}\n",
        f"{ID}\0",
        f"{ID}.part",
        f"{ID}.jpg",
        ID.upper(),
        f"{{{ID}}}",
        "/etc/passwd",
    ],
)
def test_a_key_is_an_id_and_nothing_else(kept, key):
    for use in (kept.draft, kept.open, kept.delete):
        with pytest.raises(ValueError, match=r"no key of a file"):
            use(key)


def test_deleting_takes_the_thumbnail_along_and_may_happen_twice(kept):
    for key in (ID, ID + THUMBNAIL, OTHERS[0]):
        store(kept, key)

    kept.delete(ID)
    kept.delete(ID)

    assert kept.open(ID) is None
    assert kept.open(ID + THUMBNAIL) is None
    assert content_of(kept, OTHERS[0]) == SMALL


def test_ids_are_those_of_old_enough_files_whatever_their_number(kept):
    store(kept, ID + THUMBNAIL)
    for key in OTHERS:
        store(kept, key)
    draft = written(kept, "01998f2e-5c5e-7000-8000-3f2f5a1b9c0f", LARGE)

    assert sorted(kept.ids(LATER)) == [ID, *OTHERS]
    assert list(kept.ids(NOW - timedelta(hours=2))) == []
    draft.discard()


def test_nothing_is_cleared_that_was_written_since(kept):
    draft = written(kept, ID, LARGE)

    assert kept.clear_drafts(NOW - timedelta(hours=1)) == 0

    draft.publish()
    assert content_of(kept, ID) == LARGE


def test_where_nothing_has_been_stored_nothing_is_found(kept):
    assert (list(kept.ids(LATER)), kept.clear_drafts(LATER), kept.open(ID)) == ([], 0, None)
    kept.delete(ID)
