"""Workers under ``make run``: one that dies or is replaced leaves the others alone."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import incarnations, tasks
from postlude.settings import load

HERE = Path(__file__).parent
ROLES = 4


class Tree:
    """A running ``postlude run`` with two workers, and what its actors have noted."""

    def __init__(self, site, folder, **variables):
        self.folder = folder
        folder.mkdir()
        self.site = site(
            PYTHONPATH=str(HERE),
            TREE_FOLDER=str(folder),
            POSTLUDE_ACTORS="tree_actors",
            POSTLUDE_WORKERS="2",
            **variables,
        )
        self.run = self.site.start("postlude.cli", "run")
        self.site.until(self.site.is_ready)
        self.ledger = Ledger(load(data_dir=self.site.data))
        self.site.until(lambda: len(self.workers()) == 2)

    def workers(self):
        with self.ledger.read() as connection:
            return {
                life.id: life for life in incarnations.alive(connection) if life.kind == "worker"
            }

    def add(self, actor, **args):
        answer = self.site.web.post(f"/v1/actors/{actor}/tasks", json={"args": args})
        assert answer.status_code == 202, answer.text
        return answer.headers["location"]

    def holder(self, url):
        with self.ledger.read() as connection:
            return tasks.get(connection, url.rpartition("/")[2]).holder

    def journal(self):
        path = self.folder / "journal"
        return path.read_text().split() if path.exists() else []

    def noted(self, word, times=1):
        self.site.until(lambda: self.journal().count(word) >= times)

    def let_go(self, word):
        (self.folder / word).touch()


@pytest.fixture
def tree(site, tmp_path):
    trees = []

    def start(**variables):
        trees.append(Tree(site, tmp_path / "tree", **variables))
        return trees[-1]

    yield start
    for each in trees:
        each.ledger.close()


def test_a_killed_worker_takes_no_sibling_along(tree):
    tree = tree(POSTLUDE_WORKER_THREADS="1")
    one, other = tree.add("tree-hold", word="one"), tree.add("tree-hold", word="other")
    tree.noted("one")
    tree.noted("other")
    victim, sibling = (tree.workers()[tree.holder(url)] for url in (one, other))

    os.kill(victim.pid, signal.SIGKILL)
    tree.noted("one", times=2)
    untouched = tree.workers()[tree.holder(other)]
    tree.let_go("one")
    tree.let_go("other")

    died, survived = tree.site.ended(one), tree.site.ended(other)
    assert victim.id != sibling.id
    assert (untouched.id, untouched.pid) == (sibling.id, sibling.pid)
    assert [a["outcome"] for a in survived["attempts"]] == ["succeeded"]
    assert [a["outcome"] for a in died["attempts"]] == ["worker-died", "succeeded"]
    assert tree.site.told("role.died") == 1


def test_workers_that_have_run_enough_are_replaced_and_nobody_calls_it_a_death(tree):
    tree = tree(POSTLUDE_WORKER_MAX_TASKS="10", POSTLUDE_WORKER_THREADS="2")
    before = tree.workers()

    urls = [tree.add("tree-jot", word=f"w{n}") for n in range(30)]
    ended = [tree.site.ended(url) for url in urls]
    tree.site.until(lambda: len(tree.workers().keys() - before.keys()) == 2)

    assert {len(task["attempts"]) for task in ended} == {1}
    assert Counter(tree.journal()) == {f"w{n}": 1 for n in range(30)}
    assert tree.site.told("worker.recycling") >= 2
    assert tree.site.told("role.started") == ROLES
    assert tree.site.told("role.died") == tree.site.told("role.hangs") == 0
    assert tree.site.told("reaper.buried") == 0
    tree.run.send_signal(signal.SIGINT)
    assert tree.run.wait(30) == 0


def test_a_worker_that_would_not_find_back_here_is_not_replaced_and_says_so(site):
    """``python -m dramatiq`` starts anew with the first ``python`` on PATH."""
    site = site(POSTLUDE_WORKER_MAX_TASKS="1", PATH="/usr/bin:/bin")
    site.migrate()
    worker = site.start_worker()
    site.start_api()

    urls = [site.web.post("/send-notification/ada@example.com").headers["location"] for _ in "123"]

    assert {site.ended(url)["state"] for url in urls} == {"succeeded"}
    assert site.told("worker.recycling_refused") == 1
    assert site.told("start the `dramatiq` command") == 1
    assert worker.poll() is None
