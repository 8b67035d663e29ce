"""The line between a worker and its child: whole frames in order, silence, and the end."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from postlude.isolation.line import Line


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    yield Line(ours), theirs
    ours.close()
    theirs.close()


def test_frames_arrive_whole_and_in_order(ends):
    line, theirs = ends
    other = Line(theirs)
    frames = [{"say": "log", "text": "line\nbreak \ud800 é"}, {"say": "x" * 300_000}, {}]

    sender = threading.Thread(target=lambda: [other.say(**frame) for frame in frames])
    sender.start()
    heard = [line.hear(10) for _ in frames]
    sender.join()

    assert heard == frames


def test_frames_of_many_threads_do_not_mix(ends):
    line, theirs = ends
    other = Line(theirs)
    threads = [
        threading.Thread(target=lambda n=n: [other.say(n=n, text="y" * 20_000) for _ in range(20)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    heard = [line.hear(10) for _ in range(80)]
    for thread in threads:
        thread.join()

    assert sorted(frame["n"] for frame in heard) == sorted(list(range(4)) * 20)


def test_half_a_frame_is_waited_for(ends):
    line, theirs = ends
    theirs.sendall(b'{"say": ')
    before = line.hear(0.01)
    theirs.sendall(b'"it"}\n{"say": "next"}\n')

    assert before is None
    assert [line.hear(10), line.hear(10)] == [{"say": "it"}, {"say": "next"}]


def test_silence_ends_with_the_time_out(ends):
    line, _ = ends
    began = time.monotonic()

    assert line.hear(0.05) is None
    assert 0.04 <= time.monotonic() - began < 5


def test_what_was_said_before_the_end_is_heard(ends):
    line, theirs = ends
    theirs.sendall(b'{"say": "bye"}\n{"say": "ha')
    theirs.close()

    assert line.hear(10) == {"say": "bye"}
    with pytest.raises(EOFError):
        line.hear(10)


def test_nobody_can_be_told_anything_after_the_end(ends):
    line, theirs = ends
    theirs.close()

    with pytest.raises(OSError):  # noqa: PT011 # whichever the system says
        line.say(say="hello")
