"""``python -m benchmarks.load_client URL``: HTTP load over keep-alive connections, on raw sockets.

Each connection sends a request, waits for the whole answer and sends the next: no pipelining. With
``--rate`` requests have a timetable, and a latency counts from the time at which its request was
due, not from when a slow server let us send it (no "coordinated omission").
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import random
import sys
import time
from array import array
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.connection import Connection
from benchmarks.percentile import percentile
from benchmarks.tally import Tally

GRACE_S = 30.0
"""How long the last answers may take."""


class Client:
    """All connections share it: the timetable, the numbers of the tasks and the latencies."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = urlsplit(asked.url)
        self._connections = [Connection(self, 0.0) for _ in range(asked.connections)]
        self._busy = asked.connections
        self._interval = asked.connections / asked.rate if asked.rate else 0.0
        self._begin = time.monotonic() + asked.warm_up
        self._end = self._begin + (asked.seconds or GRACE_S)
        self._numbers = iter(range(asked.count)) if asked.count else count()
        self._tally = Tally(Path(os.environ["BENCH_TALLY"])) if asked.count else None
        self._latencies = array("d")
        self._answers = 0
        self._done: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> dict[str, float]:
        """Load the server until the window is over and all that was due in it is answered."""
        host, port = self._address.hostname, self._address.port
        now = time.monotonic()
        for connection in self._connections:
            # Spread over an interval, so that a paced load is not a series of bursts.
            connection.due = now + random.random() * self._interval  # noqa: S311 - no secret
            await self._loop.create_connection(partial(_itself, connection), host, port)
        await asyncio.wait_for(self._done, self._end - now + GRACE_S)
        for connection in self._connections:
            connection.close()
        return self._figures()

    def next_request(self, connection: Connection) -> None:
        """Send the next request when it is due; without a timetable that is now."""
        now = time.monotonic()
        if not self._interval:
            connection.due = now
        if connection.due >= self._end:
            self._finish()
        elif connection.due > now:
            self._loop.call_later(connection.due - now, self._ask, connection)
        else:
            self._ask(connection)

    def answered(self, connection: Connection) -> None:
        """Count an answer: by when it was due, or when it came if there is no timetable."""
        now = time.monotonic()
        self._answers += 1
        if self._tally:
            self._tally.since[connection.number] = now
        if self._begin <= (connection.due if self._interval else now) < self._end:
            self._latencies.append(now - connection.due)
        connection.due += self._interval

    def fail(self, reason: str) -> None:
        """Stop: an error would make every figure wrong."""
        if not self._done.done():
            self._done.set_exception(RuntimeError(reason))

    def _ask(self, connection: Connection) -> None:
        number = next(self._numbers, None)
        if number is None:
            self._finish()
            return
        connection.number = number
        path, host = self._address.path, self._address.netloc
        head = f"POST {path}/{number} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
        connection.send(head.encode())

    def _finish(self) -> None:
        self._busy -= 1
        if not self._busy and not self._done.done():
            self._done.set_result(None)

    def _figures(self) -> dict[str, float]:
        if not self._latencies:
            message = (
                f"no answer came within the measured seconds ({self._answers} before or after)"
            )
            raise RuntimeError(message)
        milliseconds = [latency * 1000 for latency in self._latencies]
        return {
            "rate": len(milliseconds) / (self._end - self._begin),
            "answers": self._answers,
            "cpu_s": time.process_time(),
            "p50": percentile(milliseconds, 50),
            "p99": percentile(milliseconds, 99),
            "max": max(milliseconds),
        }


def _itself(connection: Connection) -> Connection:
    return connection


async def _load(asked: argparse.Namespace) -> dict[str, float]:
    return await Client(asked).run()


def main(arguments: list[str]) -> None:
    """Do what the command line says; prints JSON: requests per second, latencies in ms, CPU."""
    parser = argparse.ArgumentParser(prog="benchmarks.load_client")
    parser.add_argument("url", help="the request's path is /NUMBER below it")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--warm-up", type=float, default=0.0, help="seconds before those")
    parser.add_argument("--rate", type=float, default=0.0, help="of all connections together")
    parser.add_argument(
        "--count", type=int, default=0, help="so many requests, each answer noted in the tally"
    )
    asked = parser.parse_args(arguments)
    try:
        factory = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        factory = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        figures = runner.run(_load(asked))
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
