"""What the ledger knows of each attempt: its error, the kind of its error, what it logged."""

from __future__ import annotations

import json


def ended(crew, message):
    crew.ended(message)
    return crew.attempts(message)


def test_what_an_attempt_logs_is_kept_with_it(crew, actors):
    [attempt] = ended(crew, actors.talk.send(["one", "two"]))

    lines = [(line["level"], line["logger"], line["message"]) for line in attempt.logs]
    assert lines == [
        ("info", "fleet.talk", "said one"),
        ("info", "fleet.talk", "said two"),
        ("warning", "postlude", "talk.over words=2"),
    ]


def test_a_logged_exception_is_kept_with_its_traceback(crew, actors):
    [attempt] = ended(crew, actors.talk.send(["gone"], fail=True))

    [broke] = [line for line in attempt.logs if line["message"].startswith("it broke")]
    assert "ValueError: no such word: gone" in broke["message"]
    assert "raise_deeply" in broke["message"]


def test_async_actors_and_their_threads_log_to_their_own_attempt(crew, actors):
    messages = [actors.talk_async.send(word) for word in ("a", "b", "c", "d")]

    for word, message in zip("abcd", messages, strict=True):
        [attempt] = ended(crew, message)
        assert [line["message"] for line in attempt.logs] == [f"async {word}", f"thread {word}"]


def test_of_too_many_lines_the_newest_are_kept_and_the_first_one_says_so(crew, actors):
    [attempt] = ended(crew, actors.shout.send(200))

    assert attempt.logs[-1]["message"].startswith("line 199 ")
    kept = len(attempt.logs) - 1
    assert attempt.logs[0]["message"].startswith(f"{200 - kept} earlier lines are not kept")
    assert 40_000 < len(json.dumps(attempt.logs)) < 70_000


def test_an_attempt_that_logs_nothing_keeps_nothing(crew, actors):
    [attempt] = ended(crew, actors.add.send(1, y=2))

    assert attempt.logs == []


def test_failures_of_one_kind_share_a_fingerprint(crew, actors):
    same = [ended(crew, actors.talk.send([word], fail=True))[0] for word in ("x", "y")]
    [other] = ended(crew, actors.throw.send())

    assert same[0].fingerprint == same[1].fingerprint
    assert same[0].error_message != same[1].error_message
    assert other.fingerprint not in {None, same[0].fingerprint}
