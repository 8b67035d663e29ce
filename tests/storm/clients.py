"""Those who ask for tasks: they keep asking while servers come and go, and remember every answer."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import httpx2
from fates import FATES, Manner

from postlude.states import State

CLIENTS = 12
PATIENCE_S = 10
AGAIN_S = 0.1
ONE_IN = 5
"""So many answers are looked after once by id."""


class Clients:
    """All of them; ``faults`` has what no answer should have been."""

    def __init__(self, urls):
        self.faults = []
        self._urls = urls
        self._turn = count()
        self._over = threading.Event()
        self._own = threading.local()
        self._webs = []
        self._pool = ThreadPoolExecutor(CLIENTS, "client")

    def send(self, requests):
        """Begin to send ``requests``, each at its time; returns what becomes of them."""
        began = time.monotonic()
        return [self._pool.submit(self._send_at, began, request) for request in requests]

    def close(self):
        self._over.set()
        self._pool.shutdown(cancel_futures=True)
        for web in self._webs:
            web.close()

    def _send_at(self, began, request):
        self._over.wait(max(0.0, began + request.at - time.monotonic()))
        self._ask(request)
        while request.manner is Manner.KEYED and not request.ids and not self._over.is_set():
            self._ask(request)
        for number, fate in request.tasks:
            if FATES[fate].to_cancel:
                self._cancel(request.ids[str(number)][0])
        if request.ids and request.number % ONE_IN == 0:
            self._look(request.ids[str(request.tasks[0][0])][0])

    def _ask(self, request):
        """Send ``request`` once, to any of the servers."""
        arguments = {
            "url": f"{self._url()}/storm/{request.manner}",
            "json": {"tasks": request.tasks},
            "headers": {"x-request": str(request.number)},
        }
        if request.manner is Manner.KEYED:
            arguments["headers"]["idempotency-key"] = f"storm {request.number}"
        try:
            with self._web().stream("POST", **arguments) as response:
                self._hear(request, response)
        except httpx2.TransportError:
            self._over.wait(AGAIN_S)

    def _hear(self, request, response):
        if response.status_code == 202:
            request.promised = True
            lines = response.iter_lines()
            request.ids = json.loads(next(lines))
            list(lines)
            return
        problem = response.read()
        if response.status_code not in {409, 503}:
            self.faults.append(f"request {request.number}: {response.status_code} {problem}")
        code = json.loads(problem).get("code", "refused")
        if request.manner is not Manner.KEYED and code != "accept-unknown":
            request.denied = code
        self._over.wait(AGAIN_S)

    def _cancel(self, id_):
        while not self._over.is_set():
            answer = self._try("POST", f"/v1/tasks/{id_}/cancel")
            if answer is None or answer.status_code == 503:
                continue
            if answer.status_code not in {200, 202, 409}:
                self.faults.append(f"cancel {id_}: {answer.status_code} {answer.text}")
            return

    def _look(self, id_):
        """What was promised is known by its id, at any time."""
        answer = self._try("GET", f"/v1/tasks/{id_}")
        if answer is None or answer.status_code == 503:
            return
        if answer.status_code != 200 or answer.json()["state"] not in set(State):
            self.faults.append(f"G7: {id_} is {answer.status_code} {answer.text}")

    def _try(self, method, path):
        try:
            return self._web().request(method, self._url() + path)
        except httpx2.TransportError:
            self._over.wait(AGAIN_S)
            return None

    def _url(self):
        return self._urls[next(self._turn) % len(self._urls)]

    def _web(self):
        if not hasattr(self._own, "web"):
            self._own.web = httpx2.Client(timeout=PATIENCE_S)
            self._webs.append(self._own.web)
        return self._own.web
