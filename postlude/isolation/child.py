"""The child: ``python -m postlude.isolation.child <line> <box> <worker's pid>``, one task at a time.

It is started by a worker and by nobody else, loads what declares an actor, and runs its tasks in the
main thread. It opens no ledger, and ends with its worker: at once where the kernel can see to that
(Linux), otherwise as soon as its line hangs up. Signals that ask a service to stop are its worker's
business.
"""

from __future__ import annotations

import ctypes
import faulthandler
import math
import os
import queue
import resource
import signal
import socket
import sys
import threading
import traceback
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dramatiq.middleware import CurrentMessage, Shutdown

from postlude import door, logs
from postlude.arguments import Signature
from postlude.arguments.results import encode_result
from postlude.broker import broker
from postlude.errors import BadResult, PostludeError
from postlude.isolation.inside import LineDoor, LineLog, TaskMessage
from postlude.isolation.line import Line
from postlude.isolation.raised import describe
from postlude.middleware.event_loop import EventLoop
from postlude.middleware.interrupts import Interrupts
from postlude.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dramatiq import Actor

PR_SET_PDEATHSIG = 1
LONGEST_DUMP_S = 100 * 86_400


class Child:
    """Takes orders from the line, and carries them out one after the other."""

    def __init__(self, line: Line, box: int) -> None:
        self._line = line
        self._box = box
        self._orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._door = LineDoor(line)
        self._interrupts = Interrupts()
        self._main = threading.get_ident()
        self._signatures: dict[str, Signature] = {}

    def work(self) -> None:
        """Work until the line hangs up; never returns."""
        threading.Thread(target=self._listen, name="line", daemon=True).start()
        with door.use(self._door):
            while True:
                order = self._orders.get()
                self._load(**order) if order.pop("do") == "load" else self._run(**order)

    def _listen(self) -> None:
        try:
            while True:
                frame = self._line.hear() or {}
                match frame["do"]:
                    case "interrupt":
                        self._interrupts.strike(self._main, Shutdown)
                    case "ping":
                        self._line.say(say="pong")
                    case "sent":
                        self._door.answers.put((frame["number"], frame["error"]))
                    case _:
                        self._orders.put(frame)
        except EOFError:
            os._exit(0)  # there is nobody left to work for
        finally:
            os._exit(1)

    def _load(self, actor: str, module: str) -> None:
        try:
            import_module(module)
            if actor not in broker().get_declared_actors():
                message = f"importing {module} does not declare it"
                raise LookupError(message)  # noqa: TRY301 # the same answer as for a failed import
        except BaseException as error:  # noqa: BLE001 # whatever the module does at import
            why = f"{type(error).__name__}: {error}"
            self._line.say(say="cannot", why=why, traceback=traceback.format_exc())
        else:
            self._line.say(say="loaded", address_space=address_space())

    def _run(self, actor: str, arguments: str, result_limit: int, **order: Any) -> None:
        found, message = broker().get_actor(actor), None
        try:
            args, kwargs = self._signature(found).decode(arguments)
            message = TaskMessage.of(self._line, actor, args, kwargs, order)
            with capped(order["memory_limit"]), self._watched(order["limit_s"] or math.inf):
                result = self._call(found, message)
        except BaseException as error:  # noqa: BLE001 # whatever it is, its worker judges it
            verdict = "raised"
            if isinstance(error, MemoryError):  # somebody's library may have been left half-way
                verdict = "unfit"
            elif message is None and isinstance(error, PostludeError):
                verdict = "refused"
            self._line.say(say=verdict, error=describe(error))
        else:
            self._say_result(result, result_limit)

    def _call(self, actor: Actor[..., Any], message: TaskMessage) -> Any:
        CurrentMessage().before_process_message(broker(), message)
        self._line.say(say="started")
        self._interrupts.enter()
        try:
            return actor(*message.args, **message.kwargs)
        finally:
            self._interrupts.leave()
            CurrentMessage().after_process_message(broker(), message)

    @contextmanager
    def _watched(self, limit_s: float) -> Iterator[None]:
        """Write down where the actor is when its time is up; its worker then kills this process."""
        if limit_s > LONGEST_DUMP_S:
            yield
            return
        faulthandler.dump_traceback_later(limit_s, file=self._box)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _say_result(self, result: Any, limit: int) -> None:
        try:
            text, dropped = encode_result(result, limit), None
        except BadResult as error:
            text, dropped = "null", str(error)
        self._line.say(say="returned", result=text, dropped=dropped)

    def _signature(self, actor: Actor[..., Any]) -> Signature:
        found = self._signatures.get(actor.actor_name)
        if found is None:
            found = Signature.of(actor.fn, actor.actor_name)
            self._signatures[actor.actor_name] = found
        return found


@contextmanager
def capped(memory: int | None) -> Iterator[None]:
    """Let this process's address space not grow beyond ``memory`` bytes: what asks for more fails."""
    if memory is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def address_space() -> int:
    """Return how many bytes of address space this process has; 0 where that cannot be told."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def die_with(worker: int) -> None:
    """Have the kernel kill this process when its worker dies; end it if that has happened already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker:
        os._exit(0)


def stand_apart() -> None:
    """Leave to the worker what a service manager or a terminal says to all its processes at once.

    By handlers, since a signal that is ignored stays so in whatever an actor starts.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)


def main() -> None:
    """Work for the worker whose line was inherited; never returns."""
    number, box, worker = map(int, sys.argv[1:4])
    die_with(worker)
    stand_apart()
    for inherited in (number, box):
        os.set_inheritable(inherited, False)  # noqa: FBT003 # its only argument
    end = socket.socket(fileno=number)
    os.register_at_fork(after_in_child=end.close)
    faulthandler.enable(box)
    line = Line(end)
    hello = line.hear() or {}
    sys.path[:] = hello["path"]
    os.environ.pop("PYTHONPATH")
    if hello["python_path"] is not None:
        os.environ["PYTHONPATH"] = hello["python_path"]
    own = settings().model_copy(update={"log_format": "json"})
    logs.configure(own, "child", stream=LineLog(line), announce=False)
    EventLoop().before_worker_boot(broker(), None)  # type: ignore[arg-type] # it does not look at the worker
    Child(line, box).work()


if __name__ == "__main__":
    main()
