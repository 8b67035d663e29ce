"""What a worker has begun, written where whoever buries it can read that."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading

import pytest

from postlude.worker import board as boards
from postlude.worker.board import Board, read
from postlude.worker.incarnation import Incarnation

IS_LOCKED = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("locked")
"""


class NoLedger:
    """An incarnation's ledger where only its lock matters."""

    def write(self, write):
        """Store nothing."""


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "a.lock"


@pytest.fixture
def board(lock):
    with lock.open("w+b") as file:
        board = Board.on(file)
        board.open()
        yield board


def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_what_each_thread_has_begun_last_can_be_read(board, lock):
    before = read(lock)
    board.enter(1)
    board.enter(7)
    in_thread(lambda: board.enter(2**40))

    assert (before, read(lock)) == (frozenset(), {7, 2**40})

    board.enter(0)

    assert read(lock) == {2**40}


def test_who_keeps_no_board_tells_nothing(lock):
    with lock.open("w+b") as file:
        Board.on(file)

        assert read(lock) is None
    assert read(lock.with_name("nobody.lock")) is None


def test_a_board_from_before_a_reboot_tells_nothing(board, lock):
    """The crash of a machine may have lost what was written last."""
    board.enter(7)
    lock.write_bytes(lock.read_bytes().replace(b"-", b"_", 1))

    assert read(lock) is None


def test_more_threads_than_there_is_room_for_are_not_passed_over(board, lock, monkeypatch):
    monkeypatch.setattr(boards, "_SLOTS", 3)
    for number in (1, 2):
        in_thread(lambda number=number: board.enter(number))
    before = read(lock)
    in_thread(lambda: board.enter(3))

    assert (before, read(lock)) == ({1, 2}, None)


def test_where_there_is_no_room_for_it_nothing_is_told(lock):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with lock.open("w+b") as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            board = Board.on(file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        board.open()
        board.enter(1)

    assert read(lock) is None


def test_where_no_file_can_be_mapped_the_lock_holds_all_the_same(tmp_path):
    """Closing what a map that fails has duplicated would drop it: others would bury the living."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**20, limits[1]))  # less than there is already
    try:
        life = Incarnation(NoLedger(), kind="worker", queues=(), version="1", folder=tmp_path)
        board = life.board()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    board.enter(1)
    (lock,) = tmp_path.iterdir()
    command = [sys.executable, "-c", IS_LOCKED, str(lock)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    life.leave()

    assert said == "locked\n"
