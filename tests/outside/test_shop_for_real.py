"""The shop as it runs: uvicorn, a Dramatiq worker, and a worker that is killed in the middle."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

PATIENCE_S = 30
ORDER = {"number": 7, "email": "ada@example.com", "placed_at": "2026-11-24T09:00:00Z"}


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


class Shop:
    def __init__(self, folder):
        self.books = folder / "books"
        self.books.mkdir()
        self.log = folder / "log"
        self.environment = {
            **os.environ,
            "POSTLUDE_DATA_DIR": str(folder / "var"),
            "SHOP_BOOKS": str(self.books),
        }
        self.running = []
        subprocess.run(
            [sys.executable, "-m", "postlude.cli", "migrate"],
            env=self.environment,
            check=True,
            capture_output=True,
        )

    def start(self, *command):
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=Path(__file__).parent,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def open(self):
        self.start("uvicorn", "shop:app", "--port", "0")
        found = until(lambda: re.search(r"running on (http://\S+)", self.log.read_text()))
        return httpx2.Client(base_url=found[1], timeout=10)

    def hire(self):
        return self.start("dramatiq", "shop", "--processes", "1", "--threads", "4")

    def book(self):
        path = self.books / "book"
        return path.read_text().splitlines() if path.exists() else []

    def kill(self, process):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)


@pytest.fixture
def shop_for_real(tmp_path):
    shop = Shop(tmp_path)
    yield shop
    for process in shop.running:
        shop.kill(process)


def test_a_worker_killed_in_the_middle_loses_nothing_and_a_closed_bank_is_asked_again(
    shop_for_real,
):
    shop = shop_for_real
    (shop.books / "no boxes").touch()
    (shop.books / "bank is closed").touch()
    with shop.open() as client:
        assert client.post("/orders/refused", json=ORDER).status_code == 409
        tasks = client.post("/orders", json=ORDER).json()
        worker = shop.hire()
        until(lambda: {"packing 7", "bank closed for 7"} <= set(shop.book()))

        shop.kill(worker)
        (shop.books / "no boxes").unlink()
        (shop.books / "bank is closed").unlink()
        shop.hire()

        def ended(name):
            task = client.get(f"/tasks/{tasks[name]}").json()
            return task["state"] in {"succeeded", "failed"} and task

        assert until(lambda: ended("charge")) == {
            "state": "succeeded",
            "result": "ada@example.com has paid",
        }
        assert until(lambda: ended("pack"))["state"] == "succeeded"
        assert client.get("/tasks/nothing").status_code == 404
    book = shop.book()
    assert book.count("packing 7") == 2
    assert (book.count("packed 7"), book.count("charged 7 of 2026")) == (1, 1)
    assert book.count("ding") == 1
    assert book.count("watered") in {1, 2}  # it may have been the worker's last deed
