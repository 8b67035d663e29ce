"""A server of buckets as a real process, and a wire to it that can be cut."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import boto3
from installation import free_port

HERE = Path(__file__).parent
PATIENCE_S = 30
NAMES = map("bucket-{}".format, count())


class Server:
    """An S3 that keeps everything in memory. What is asked for here is asked past Postlude."""

    def __init__(self, log, **variables):
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        with log.open("ab") as written:
            self.process = subprocess.Popen(
                [sys.executable, HERE / "s3_process.py", "--port", str(self.port)],
                env=os.environ | variables,
                stdout=written,
                stderr=written,
            )
        until(self.answers)
        self.client = boto3.session.Session().client("s3", endpoint_url=self.endpoint)

    def answers(self):
        assert self.process.poll() is None
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), PATIENCE_S):
            return True
        return False

    def bucket(self):
        """Make an empty bucket, and return its name."""
        name = next(NAMES)
        self.client.create_bucket(Bucket=name)
        return name

    def keys(self, bucket):
        """Return what can be read in ``bucket``."""
        found = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return sorted(each["Key"] for each in found)

    def uploads(self, bucket):
        """Return the keys of the uploads under way, or left."""
        found = self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return sorted(each["Key"] for each in found)

    def close(self):
        self.process.kill()
        self.process.wait()


DENIAL = "<Error><Code>{}</Code><Message>No</Message></Error>"


class Wire:
    """Passes connections on to a port, until it is cut; ``lose`` makes it lose one answer.

    Requests with ``denied`` in them it denies by itself, with ``code``.
    """

    def __init__(self, port):
        self._server = ("127.0.0.1", port)
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._ends = []
        self._lost, self._after = b"", 0
        self.denied = b""
        self.code = "AccessDenied"
        self.mend()

    def mend(self):
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def cut(self):
        """Refuse connections from now on, and break those that there are."""
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def lose(self, mark, *, after=0):
        """Break the connection of the next request with ``mark`` in it while the server answers.

        That is, once it has answered more than ``after`` bytes.
        """
        self._lost, self._after = mark, after

    @property
    def has_lost(self):
        return not self._lost

    def _accept(self, listener):
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._server)
                self._ends += near, far
                doomed = threading.Event()
                for source, target in ((near, far), (far, near)):
                    threading.Thread(
                        target=self._pass, args=[source, target, doomed, source is far], daemon=True
                    ).start()

    def _pass(self, source, target, doomed, is_answer):
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if not is_answer and self.denied and self.denied in data:
                    denial = DENIAL.format(self.code)
                    head = f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(denial)}\r\n\r\n"
                    source.sendall((head + denial).encode())
                    continue
                if not is_answer and self._lost and self._lost in data:
                    doomed.set()
                if is_answer and doomed.is_set() and passed > self._after:
                    self._lost = b""
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def until(ask, patience_s=PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return answer
