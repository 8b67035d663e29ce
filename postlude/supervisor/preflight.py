"""What must be true before anything is started; each fault says what to do about it."""

from __future__ import annotations

import errno
import importlib.util
import socket
import sys
import tempfile
from pathlib import Path

from postlude.errors import SettingsError
from postlude.settings import Settings

_PARTS = ("api", "actors", "scheduler")


_ROOM = bytes(256 * 1024)
"""What a ledger that starts needs at least: its tables and the first pages of its log."""


def check_folder(settings: Settings) -> None:
    """Make the data folder and write something into it. Raises SettingsError. May run twice."""
    folder = settings.data_dir
    try:
        for place in (folder, folder / "run"):
            folder = place
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(_ROOM)
    except OSError as error:
        message = (
            f"the folder {folder} cannot be written ({error.strerror or error}); make room, make it "
            "writable for this user, or choose another: POSTLUDE_DATA_DIR=/some/folder"
        )
        raise SettingsError(message) from error


def check_parts(folder: Path) -> None:
    """See that the application's packages are in ``folder``. Raises SettingsError."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))  # a script's path starts where the script lies
    missing = [part for part in _PARTS if importlib.util.find_spec(part) is None]
    if missing:
        message = (
            f"no package {', '.join(missing)} in {folder}; "
            "start `postlude run` in the folder that holds api, actors and scheduler"
        )
        raise SettingsError(message)


def choose_port(settings: Settings, *, another: bool = False) -> int:
    """Return the port that the API will listen on; port 0 means any that is free.

    Raises SettingsError when it is taken, unless ``another`` will do, or when the address is not
    ours. Somebody may still take it between now and the API's start.
    """
    try:
        return _bind(settings.host, settings.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and another:
            return _bind(settings.host, 0)
        raise SettingsError(_advice(settings, error)) from error


def _bind(host: str, port: int) -> int:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)
        return int(probe.getsockname()[1])


def _advice(settings: Settings, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {settings.port} on {settings.host} is taken by another program; stop it, or "
            f"choose another port: POSTLUDE_PORT={min(settings.port + 1, 65535)} make run"
        )
    if error.errno == errno.EACCES:
        return (
            f"this user may not listen on port {settings.port}; "
            "choose one above 1023: POSTLUDE_PORT=8000 make run"
        )
    return (
        f"cannot listen on {settings.host} port {settings.port} ({error.strerror or error}); "
        "POSTLUDE_HOST must be an address of this machine, such as 127.0.0.1"
    )
