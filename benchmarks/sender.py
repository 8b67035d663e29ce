"""``python -m benchmarks.sender MODULE``: sends tasks of one contestant and says how long it took.

A process of its own, so that its CPU time and its library are its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import inspect
import json
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(arguments: list[str]) -> None:
    """Do what the command line says; prints a JSON list: ``rate`` per second and ``cpu_s`` of sending.

    The tasks are shared out: each number of ``--senders`` gets as many, one after the other.
    """
    asked = _parse(arguments)
    module = importlib.import_module(asked.module)
    if asked.prepare and hasattr(module, "prepare"):
        module.prepare()
    share = asked.count // len(asked.senders)
    used = [
        _send(module, range(position * share, (position + 1) * share), senders, asked.every)
        for position, senders in enumerate(asked.senders)
        if share
    ]
    sys.stdout.write(json.dumps(used) + "\n")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.sender")
    parser.add_argument("module")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--senders", type=int, nargs="+", default=[1], help="at once")
    parser.add_argument("--every", type=float, default=0.0, help="seconds from one to the next")
    parser.add_argument("--prepare", action="store_true")
    return parser.parse_args(arguments)


def _send(module: Any, numbers: Sequence[int], senders: int, every: float) -> dict[str, float]:
    if inspect.iscoroutinefunction(module.send):
        return asyncio.run(_in_loop(module, numbers, senders, every))
    if every:
        return _one_by_one(module.send, numbers, every)
    return _in_threads(module.send, numbers, senders)


class _Stopwatch:
    """Times what is sent after the first task, which opens connections."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._count = len(numbers) - 1
        self._at, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._at
        return {"rate": self._count / seconds, "cpu_s": time.process_time() - self._cpu}


def _shares(numbers: Sequence[int], senders: int) -> list[Sequence[int]]:
    """Deal all but the first number out among the senders."""
    return [numbers[1:][i::senders] for i in range(senders)]


def _in_threads(
    send: Callable[[int], object], numbers: Sequence[int], senders: int
) -> dict[str, float]:
    send(numbers[0])
    if senders == 1:
        watch = _Stopwatch(numbers)
        _each(send, numbers[1:])
        return watch.read()
    with ThreadPoolExecutor(senders) as threads:
        watch = _Stopwatch(numbers)
        list(threads.map(_each, repeat(send), _shares(numbers, senders)))
        return watch.read()


def _each(send: Callable[[int], object], numbers: Sequence[int]) -> None:
    for number in numbers:
        send(number)


async def _in_loop(
    module: Any, numbers: Sequence[int], senders: int, every: float
) -> dict[str, float]:
    async with getattr(module, "opened", contextlib.nullcontext)():
        await module.send(numbers[0])
        watch = _Stopwatch(numbers)
        if every:
            tally = _tally()
            for number in numbers[1:]:
                await asyncio.sleep(_pause(every))
                tally.since[number] = time.monotonic()
                await module.send(number)
        else:
            shares = _shares(numbers, senders)
            await asyncio.gather(*(_each_in_loop(module.send, share) for share in shares))
        return watch.read()


async def _each_in_loop(send: Any, numbers: Sequence[int]) -> None:
    for number in numbers:
        await send(number)


def _one_by_one(
    send: Callable[[int], object], numbers: Sequence[int], every: float
) -> dict[str, float]:
    tally = _tally()
    send(numbers[0])
    watch = _Stopwatch(numbers)
    for number in numbers[1:]:
        time.sleep(_pause(every))
        tally.since[number] = time.monotonic()
        send(number)
    return watch.read()


def _pause(every: float) -> float:
    """Return an uneven pause, so that no poller's rhythm is met or missed each time."""
    return every * random.uniform(0.5, 1.5)  # noqa: S311 - no secret


def _tally() -> Tally:
    return Tally(Path(os.environ["BENCH_TALLY"]))


if __name__ == "__main__":
    main(sys.argv[1:])
