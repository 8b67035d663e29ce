"""Mail in files: whole or absent, once or not at all, whoever dies or looks in between."""

from __future__ import annotations

import mailbox
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_binary_file, policy
from pathlib import Path

import pytest

from actors.mail.errors import MailDeferred
from actors.mail.maildir import Maildir
from actors.mail.message import Draft, compose

ROOT = Path(__file__).parents[2]
TASK = "0194bd3c-1111-7000-8000-000000000001"

# Delivers one mail and stops at the first event that matches, until its standard input has a line.
CHILD = f"""
import sys
from datetime import UTC, datetime
from pathlib import Path
from actors.mail.maildir import Maildir
from actors.mail.message import Draft, compose

folder, event, path = sys.argv[1:]
stops = [path]

def stop(name, args):
    if stops and name == event and str(args[0]).startswith(folder + stops[0]):
        stops.clear()
        print("stopped", flush=True)
        sys.stdin.readline()

draft = Draft("ann@example.com", "from a child")
mail = compose(draft, task_id="{TASK}", mail_from="a@b.cd", now=datetime.now(UTC))
sys.addaudithook(stop)
Maildir(Path(folder)).deliver(mail)
"""
BEFORE_WRITING = ("open", "/tmp/")
BEFORE_RENAMING = ("os.rename", "/tmp/")
BEFORE_THE_NAME_IS_DURABLE = ("open", "/new")


def start_child(folder, event, path):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), event, path],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


@contextmanager
def stopped_child(folder, event, path):
    """Run CHILD up to that event; it is gone when this ends, one way or another."""
    with start_child(folder, event, path) as child:
        try:
            assert child.stdout.readline() == "stopped\n"
            yield child
        finally:
            child.kill()


def finish(child):
    child.communicate("go on\n", timeout=30)
    assert child.returncode == 0


def mail(text="Hello", *, task_id=TASK, to="ann@example.com"):
    draft = Draft(to, text, subject="Grüße aus Köln")
    return compose(draft, task_id=task_id, mail_from="postlude@localhost", now=datetime.now(UTC))


def read(folder):
    """Return the mails in ``folder`` as a mail program sees them."""
    box = mailbox.Maildir(
        folder,
        factory=lambda file: message_from_binary_file(file, policy=policy.default),
        create=False,
    )
    return list(box)


def files(folder, part):
    return sorted(path.name for path in (folder / part).iterdir())


def move_to_cur(folder, flags=":2,S"):
    """Do what a mail program does when somebody reads the mail."""
    (path,) = (folder / "new").iterdir()
    path.rename(folder / "cur" / (path.name + flags))


def test_a_mail_can_be_read_by_other_programs(tmp_path):
    folder = tmp_path / "var" / "mail"

    Maildir(folder).deliver(mail("Schöne Grüße"))

    (found,) = read(folder)
    assert found["Subject"] == "Grüße aus Köln"
    assert found["Message-ID"] == f"<{TASK}@localhost>"
    assert found.get_content() == "Schöne Grüße\n"
    assert files(folder, "new") == [TASK]
    assert files(folder, "tmp") == []
    assert b"\r" not in (folder / "new" / TASK).read_bytes()


def test_an_address_that_is_not_ascii_can_be_read_back(tmp_path):
    Maildir(tmp_path / "mail").deliver(mail(to="jörg@exämple.de"))

    (found,) = read(tmp_path / "mail")
    assert found["To"] == "jörg@xn--exmple-cua.de"


def test_mail_is_private_to_the_user_of_the_worker(tmp_path):
    Maildir(tmp_path / "mail").deliver(mail())

    assert (tmp_path / "mail").stat().st_mode & 0o077 == 0
    assert (tmp_path / "mail" / "new" / TASK).stat().st_mode & 0o077 == 0


def test_a_second_run_of_the_same_task_replaces_the_first(tmp_path):
    Maildir(tmp_path).deliver(mail("first"))
    Maildir(tmp_path).deliver(mail("second"))

    (found,) = read(tmp_path)
    assert found.get_content() == "second\n"


def test_two_tasks_are_two_mails(tmp_path):
    Maildir(tmp_path).deliver(mail(task_id="ab"))
    move_to_cur(tmp_path)
    Maildir(tmp_path).deliver(mail(task_id="a"))

    assert len(read(tmp_path)) == 2


@pytest.mark.parametrize("flags", ["", ":2,", ":2,FRS"])
def test_a_second_run_after_the_mail_was_read_adds_none(tmp_path, flags):
    Maildir(tmp_path).deliver(mail("first"))
    move_to_cur(tmp_path, flags)

    Maildir(tmp_path).deliver(mail("second"))

    (found,) = read(tmp_path)
    assert found.get_content() == "first\n"
    assert files(tmp_path, "cur") == [TASK + flags]


def test_a_mail_that_was_read_is_not_even_written_again(tmp_path):
    Maildir(tmp_path).deliver(mail("first"))
    move_to_cur(tmp_path)

    with start_child(tmp_path, *BEFORE_WRITING) as child:
        output, _ = child.communicate("", timeout=30)

    assert child.returncode == 0
    assert "stopped" not in output


@pytest.mark.parametrize("instant", [BEFORE_WRITING, BEFORE_RENAMING])
def test_a_worker_killed_before_the_mail_is_complete_leaves_no_mail(tmp_path, instant):
    with stopped_child(tmp_path, *instant) as child:
        child.kill()
        child.wait()

    assert read(tmp_path) == []


@pytest.mark.parametrize("instant", [BEFORE_WRITING, BEFORE_RENAMING, BEFORE_THE_NAME_IS_DURABLE])
def test_a_worker_killed_at_any_instant_leaves_one_mail_after_the_rerun(tmp_path, instant):
    with stopped_child(tmp_path, *instant) as child:
        child.kill()
        child.wait()

    Maildir(tmp_path).deliver(mail("from the rerun"))

    (found,) = read(tmp_path)
    assert found.get_content() == "from the rerun\n"


def test_two_workers_with_the_same_task_at_once_deliver_one_mail(tmp_path):
    with (
        stopped_child(tmp_path, *BEFORE_RENAMING) as one,
        stopped_child(tmp_path, *BEFORE_RENAMING) as other,
    ):
        assert len(files(tmp_path, "tmp")) == 2
        finish(one)
        finish(other)

    assert len(read(tmp_path)) == 1
    assert files(tmp_path, "tmp") == []


def test_a_mail_read_while_a_second_run_writes_is_not_doubled(tmp_path):
    with stopped_child(tmp_path, *BEFORE_RENAMING) as child:
        Maildir(tmp_path).deliver(mail("first"))
        move_to_cur(tmp_path)
        finish(child)

    (found,) = read(tmp_path)
    assert found.get_content() == "first\n"


def test_a_folder_that_cannot_be_written_says_which_and_is_tried_again(tmp_path):
    (tmp_path / "mail").write_text("a file is in the way")

    with pytest.raises(MailDeferred, match=r"to .*mail: File exists; make the folder"):
        Maildir(tmp_path / "mail").deliver(mail())


def test_a_mail_that_cannot_be_renamed_leaves_nothing_behind(tmp_path):
    (tmp_path / "new" / TASK).mkdir(parents=True)

    with pytest.raises(MailDeferred, match="Is a directory"):
        Maildir(tmp_path).deliver(mail())

    assert files(tmp_path, "tmp") == []
