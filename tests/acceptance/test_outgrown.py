"""A deploy migrates the ledger while older processes run: those it has outgrown leave, in order."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from sqlalchemy import text

from postlude.ledger.engine import BareConnection, build_engine
from postlude.ledger.statement import Statement
from postlude.policy.restart import OUTGROWN
from postlude.settings import load

HERE = Path(__file__).parent
GROW = Statement(text("UPDATE postlude_meta SET version = 99, compatible_from = 99"))


@pytest.fixture
def deploy(site, tmp_path):
    """An installation to deploy to; ``grow`` is what a newer version's migration leaves behind."""
    folder = tmp_path / "tree"
    folder.mkdir()
    made = site(PYTHONPATH=str(HERE), TREE_FOLDER=str(folder), POSTLUDE_ACTORS="tree_actors")
    made.tree = folder
    made.grow = lambda: grow(made)
    return made


def grow(site):
    engine = build_engine(load(data_dir=site.data))
    connection = BareConnection(engine)
    with connection.transaction() as tx:
        tx.run(GROW)
    connection.close()
    engine.dispose()


def hold(site, word):
    """Add a task that waits, and return its url once it has started."""
    body = {"args": {"word": word}}
    url = site.web.post("/v1/actors/tree-hold/tasks", json=body).headers["location"]
    site.until((site.tree / "journal").exists)
    return url


def too_new(answer):
    return answer.status_code == 503 and answer.json()["code"] == "ledger-too-new"


def test_the_whole_stack_leaves_in_order_and_nobody_hot_loops(deploy):
    run = deploy.start("postlude.cli", "run")
    deploy.until(deploy.is_ready)
    url = hold(deploy, "one")

    deploy.grow()
    deploy.until(lambda: too_new(deploy.web.post("/send-notification/ada@example.com")))
    deploy.until(lambda: deploy.told("Shutting down"))
    running = deploy.task(url)
    (deploy.tree / "one").touch()
    task = deploy.ended(url)
    deploy.until(lambda: deploy.told("role.outgrown") == 2)

    assert too_new(deploy.web.get("/readyz"))
    assert running["state"] == "running"
    assert (task["state"], len(task["attempts"])) == ("succeeded", 1)
    for kind in ("api", "worker", "scheduler"):
        assert len(re.findall(rf"ledger\.outgrown .*kind={kind} ", deploy.log.read_text())) == 1
    assert deploy.told(f"exited with code {OUTGROWN}") == 2
    assert deploy.told("restart_in='30.0 s'") == 2
    assert deploy.told("role.died") == 0
    assert deploy.told("role.started") == 3
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 0


def test_a_worker_that_starts_on_a_ledger_that_is_too_new_says_why_and_ends(deploy):
    deploy.migrate()
    deploy.grow()

    done = deploy.run("dramatiq", "actors", "--processes", "1")

    assert done.returncode == OUTGROWN
    assert re.search(r"dramatiq: the ledger at .* needs code of schema version 99", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_scheduler_that_starts_on_a_ledger_that_is_too_new_says_why_and_ends(deploy):
    deploy.migrate()
    deploy.grow()

    done = deploy.run("scheduler")

    assert done.returncode == OUTGROWN
    assert re.search(r"scheduler: the ledger at .* needs code of schema version 99", done.stderr)
