"""Mail as files in a maildir: one file a mail, complete or absent, for any mail program to read."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from actors.mail.errors import MailDeferred

if TYPE_CHECKING:
    from pathlib import Path

    from actors.mail.message import Mail

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Maildir:
    """The maildir at ``folder``, which the first delivery makes (private to this user)."""

    folder: Path

    def deliver(self, mail: Mail) -> None:
        """Put ``mail`` into ``new``, on disk when this returns. Raise MailDeferred if that fails.

        May run twice: yes, also at once in two processes. The file is named for the task, so a
        second run replaces the first; where a mail program has moved the first to ``cur``, nothing
        is written. A process that dies leaves at most a file in ``tmp``, which is no mail yet and
        which mail programs remove after 36 hours, as the rules of a maildir ask.
        """
        try:
            self._make_folders()
            if not self._was_read(mail.key):
                self._store(mail)
        except OSError as error:
            message = (
                f"cannot write mail to {self.folder}: {error.strerror or error}; make the folder"
                " writable for the worker, or set POSTLUDE_DATA_DIR or POSTLUDE_MAIL_URL"
            )
            raise MailDeferred(message) from error
        log.info("mail.delivered", task_id=mail.key, transport="maildir", folder=str(self.folder))

    def _store(self, mail: Mail) -> None:
        draft = self.folder / "tmp" / f"{mail.key}.{secrets.token_hex(8)}"
        final = self.folder / "new" / mail.key
        try:
            _write(draft, mail.as_bytes(linesep="\n"))
            draft.replace(final)
        finally:
            draft.unlink(missing_ok=True)
        _sync(final.parent)
        # A mail program moves files whenever it likes: an earlier copy may have gone from "new" to
        # "cur" after it was looked for.
        if self._was_read(mail.key):
            final.unlink(missing_ok=True)

    def _was_read(self, key: str) -> bool:
        """Say whether ``cur`` has the mail; behind a colon its name then carries flags."""
        with os.scandir(self.folder / "cur") as entries:
            return any(entry.name.partition(":")[0] == key for entry in entries)

    def _make_folders(self) -> None:
        # "cur" is made last, so where it exists the others do.
        if (self.folder / "cur").is_dir():
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in ("tmp", "new", "cur"):
            (self.folder / part).mkdir(mode=0o700, exist_ok=True)
        _sync(self.folder)
        _sync(self.folder.parent)


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the names in ``folder`` durable; without this a power cut may take a new one back."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
