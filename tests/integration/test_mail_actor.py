"""The actor ``send_notification``: its arguments on the way through JSON, and what a run leaves."""

from __future__ import annotations

import mailbox

import dramatiq
import pytest
from dramatiq.middleware import CurrentMessage

from actors.mail import send_notification
from actors.mail.attachment import Attachment
from actors.mail.errors import BadMail, MailDeferred
from postlude.arguments import Signature
from postlude.errors import BadArguments
from postlude.settings import settings

TASK = "0194bd3c-1111-7000-8000-000000000001"


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """Run with settings of our own: mail goes to a maildir in ``tmp_path``."""
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("POSTLUDE_MAIL_URL", raising=False)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture
def task(data_dir):
    """Be in a worker that runs a task: what Dramatiq's own middleware tells the actor."""
    middleware = CurrentMessage()
    message = dramatiq.Message("default", "send_notification", (), {}, {}, message_id=TASK)
    middleware.before_process_message(None, message)
    yield message
    middleware.after_process_message(None, message)


@pytest.fixture
def signature():
    return Signature.of(send_notification.fn, "send_notification")


def inbox(data_dir):
    return list(mailbox.Maildir(data_dir / "mail", create=False))


def test_called_directly_each_call_is_a_mail(data_dir):
    send_notification.fn("ann@example.com", "one")
    send_notification("ann@example.com", "two")

    assert sorted(mail.get_payload() for mail in inbox(data_dir)) == ["one\n", "two\n"]


def test_a_task_that_runs_twice_is_one_mail_named_for_it(data_dir, task):
    send_notification.fn("ann@example.com", "first run")
    result = send_notification.fn("ann@example.com", "second run")

    (mail,) = inbox(data_dir)
    assert mail.get_payload() == "second run\n"
    assert mail["Message-ID"] == result == f"<{TASK}@localhost>"


def test_the_mail_server_in_the_settings_is_used(data_dir, task, monkeypatch):
    monkeypatch.setenv("POSTLUDE_MAIL_URL", "smtp://127.0.0.1:1?timeout=5s")
    settings.cache_clear()

    with pytest.raises(MailDeferred, match=r"127\.0\.0\.1:1 "):
        send_notification.fn("ann@example.com", "nobody listens there")


def test_a_mail_that_cannot_be_written_fails_without_a_retry(data_dir):
    with pytest.raises(send_notification.options["throws"]) as caught:
        send_notification.fn("ann@example.com", "Hi", subject="a\nBcc: eve@example.com")

    assert caught.type is BadMail


def test_a_server_that_is_not_ready_is_worth_a_retry():
    assert not issubclass(MailDeferred, send_notification.options["throws"])


@pytest.mark.parametrize("collection", [list, tuple])
def test_all_arguments_come_through_json_as_they_were(signature, collection):
    files = [Attachment(name="ü.bin", content=bytes(range(256)), type="image/png")]
    kwargs = {"subject": "Grüße", "html": "<p>ü</p>", "attachments": collection(files)}

    text = signature.encode(("jörg@example.com", "Hallo"), kwargs)
    args, kwargs = signature.decode(text)

    named = dict(zip(["email", "message"], args, strict=False)) | kwargs
    assert named.pop("attachments") == files
    assert named == {
        "email": "jörg@example.com",
        "message": "Hallo",
        "subject": "Grüße",
        "html": "<p>ü</p>",
    }


def test_arguments_from_http_come_through_too(signature):
    text = signature.encode_named(
        {
            "email": "ann@example.com",
            "message": "Hi",
            "attachments": [{"name": "a", "content": "/wA="}],
        }
    )

    _, kwargs = signature.decode(text)
    assert kwargs["attachments"] == [Attachment(name="a", content=b"\xff\x00")]


@pytest.mark.parametrize(
    ("pointer", "fault"),
    [
        ("/email", {"email": "nobody"}),
        ("/email", {"email": "ann@example.com\nBcc: eve@example.com"}),
        ("/subject", {"subject": "a\nBcc: eve@example.com"}),
        ("/attachments/0/content", {"attachments": [{"name": "a", "content": "%"}]}),
        ("/attachments/0/name", {"attachments": [{"name": "a/b", "content": ""}]}),
        ("/text", {"text": "Hi"}),
    ],
)
def test_bad_arguments_stop_at_the_door(signature, pointer, fault):
    with pytest.raises(BadArguments) as caught:
        signature.encode_named({"email": "ann@example.com", "message": "Hi"} | fault)

    assert [error["pointer"] for error in caught.value.errors] == [pointer]
