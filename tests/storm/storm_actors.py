"""The actors of the storm: each run writes down that it has begun, and that it has come to its end."""

from __future__ import annotations

import os
import signal
import time
from functools import cache

import dramatiq
from dramatiq.middleware import CurrentMessage

import postlude


@cache
def _journal() -> int:
    return os.open(os.environ["STORM_JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def note(*words: object) -> None:
    """Write one line that survives this process, with the time; one write, so that no two mix."""
    line = " ".join(map(str, [time.time_ns() // 1000, *words]))
    os.write(_journal(), f"{line}\n".encode())


def begin() -> None:
    note("began", CurrentMessage.get_current_message().message_id)


def end() -> None:
    note("ended", CurrentMessage.get_current_message().message_id)


def retries() -> int:
    return CurrentMessage.get_current_message().options["retries"]


def die(number: int) -> None:
    """Take down the process that runs this, in one of three ways."""
    match number % 3:
        case 0:
            os.kill(os.getpid(), signal.SIGKILL)
        case 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        case _:
            os._exit(1)
    time.sleep(60)


@dramatiq.actor
def storm_quick(number: int) -> int:
    begin()
    end()
    return number


@dramatiq.actor
def storm_slow(number: int) -> int:
    begin()
    time.sleep(0.1 * (number % 10))
    end()
    return number


@dramatiq.actor
def storm_later(number: int) -> int:
    """Asked for with a delay."""
    begin()
    end()
    return number


@dramatiq.actor(max_retries=5, min_backoff=20, max_backoff=200)
def storm_flaky(number: int) -> int:
    """Fail twice."""
    begin()
    if retries() < 2:
        message = f"{number} is not up to it yet"
        raise ValueError(message)
    end()
    return number


@dramatiq.actor(max_retries=1, min_backoff=20, max_backoff=200)
def storm_hopeless(number: int) -> None:
    begin()
    raise ValueError(number)


@dramatiq.actor
def storm_first(number: int) -> int:
    begin()
    end()
    return 2 * number


@dramatiq.actor
def storm_second(number: int, found: int) -> int:
    """Take what the first has found."""
    begin()
    end()
    return number + found


@dramatiq.actor
def storm_member(number: int) -> int:
    begin()
    end()
    return number


@dramatiq.actor
def storm_complete(number: int) -> int:
    begin()
    end()
    return number


@dramatiq.actor
def storm_recalled(number: int) -> None:
    """Asked for with a delay of an hour, and cancelled."""
    begin()


@dramatiq.actor
def storm_stopped(number: int) -> int:
    """Go on for a while; somebody cancels this meanwhile."""
    begin()
    for _ in range(100):
        time.sleep(0.01)
    end()
    return number


@dramatiq.actor(isolation="process")
def storm_apart(number: int) -> int:
    begin()
    end()
    return number


@dramatiq.actor(isolation="process", max_retries=1, min_backoff=20, max_backoff=200)
def storm_fallen(number: int) -> None:
    """Kill the child that runs this, which is for this actor an ordinary failure."""
    begin()
    die(number)


@dramatiq.actor
def storm_stumbling(number: int) -> int:
    """Kill what runs this, whoever it is, the first time."""
    begin()
    try:
        os.close(os.open(f"{os.environ['STORM_JOURNAL']}-{number}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        end()
        return number
    die(number)
    return -1


@dramatiq.actor
def storm_deadly(number: int) -> None:
    begin()
    die(number)


@postlude.every("1s", misfire="all")
@dramatiq.actor
def storm_ticked() -> None:
    begin()
    end()
