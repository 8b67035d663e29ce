"""Files through real processes: an API that takes them, a worker that looks at them, both killed."""

from __future__ import annotations

import csv
import hashlib
import http.client
import io
import json
import os
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
BOUNDARY = "0123456789"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n'
).encode()
END = f"\r\n--{BOUNDARY}--\r\n".encode()
MEGABYTE = 1024 * 1024


class Stack:
    """The application in ``folder``, whose every process is a real one."""

    def __init__(self, folder):
        self.folder = folder
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")}
        self.environment = inherited | {
            "POSTLUDE_DATA_DIR": str(folder),
            "POSTLUDE_LOG_LEVEL": "error",
        }
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.run("-m", "postlude.cli", "migrate")

    def run(self, *arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def started(self, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            kill(process)

    @contextmanager
    def api(self):
        with self.started("uvicorn", "api:app", "--port", str(self.port)) as process:
            until(self.answers)
            yield process

    def worker(self):
        return self.started("dramatiq", "actors", "--processes", "1", "--threads", "2")

    def answers(self):
        try:
            return self.get("/livez")
        except OSError:
            return None

    def request(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, json.load(response)
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)[1]

    def upload(self, name, blocks):
        blocks = [blocks] if isinstance(blocks, bytes) else blocks
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        status, answer = self.request("POST", "/files", framed(name, blocks), kind)
        assert status == 202, answer
        return answer["file"]

    def finished(self, file):
        return until(lambda: over(self.get(file["url"])))


def announced(size):
    """Return the head of an upload whose body is said to have this many bytes."""
    return (
        f"POST /files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    ).encode()


def framed(name, blocks):
    yield HEAD.replace(b"%s", name.encode())
    yield from blocks
    yield END


def over(file):
    return file if file["task"]["state"] in {"succeeded", "failed"} else None


def kill(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def until(ask):
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return answer


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    return Stack(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def running(stack):
    with stack.api() as api, stack.worker():
        stack.api_pid = api.pid
        yield stack


def painted(format_name):
    written = io.BytesIO()
    Image.effect_mandelbrot((1200, 900), (-2, -1.2, 1, 1.2), 50).convert("RGB").save(
        written, format_name
    )
    return written.getvalue()


def test_a_png_is_what_its_header_says(running):
    data = painted("PNG")

    file = running.finished(running.upload("mandelbrot.png", data))

    assert (file["state"], file["type"]) == ("processed", "image/png")
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    size = struct.unpack(">II", data[16:24])
    assert (file["profile"]["width"], file["profile"]["height"]) == size == (1200, 900)
    with Image.open(running.folder / "files" / f"{file['id']}.thumbnail.jpg") as thumbnail:
        assert thumbnail.size == (256, 192)


def test_a_jpeg_is_what_its_frame_says(running):
    data = painted("JPEG")

    file = running.finished(running.upload("mandelbrot.jpeg", data))

    height, width = struct.unpack(">HH", re.search(rb"\xff\xc0..\x08(....)", data, re.DOTALL)[1])
    profile = file["profile"]
    assert (profile["width"], profile["height"], profile["mode"]) == (width, height, "RGB")


def test_a_pdf_has_as_many_pages_as_it_has_page_objects(running):
    written = io.BytesIO()
    pages = [Image.new("RGB", (30, 30), colour) for colour in ("red", "green", "blue")]
    pages[0].save(written, "PDF", save_all=True, append_images=pages[1:])

    file = running.finished(running.upload("colours.pdf", written.getvalue()))

    assert file["profile"]["pages"] == len(re.findall(rb"/Type /Page\b", written.getvalue())) == 3


def test_a_table_is_what_the_csv_module_and_statistics_say(running):
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(["n", "reading", "city", "day"])
    cities = ["Köln", "São Paulo", 'the "old" town, east', ""]
    for n in range(5_000):
        writer.writerow(
            [n, f"{(n * 37) % 1009 / 8:.3f}", cities[n % 4], f"2026-01-{n % 28 + 1:02}"]
        )

    file = running.finished(running.upload("readings.csv", written.getvalue().encode()))

    rows = list(csv.DictReader(io.StringIO(written.getvalue())))
    found = {column["name"]: column for column in file["profile"]["columns"]}
    readings = [float(row["reading"]) for row in rows]
    assert file["profile"]["rows"] == len(rows)
    assert (found["reading"]["min"], found["reading"]["max"]) == (min(readings), max(readings))
    assert found["city"]["nulls"] == sum(not row["city"] for row in rows)
    assert found["city"]["max"] == max(row["city"] for row in rows)
    assert [found[name]["type"] for name in rows[0]] == ["integer", "number", "text", "date"]
    assert found["n"]["max"] == statistics.quantiles(range(5_000), n=2)[0] * 2


def test_a_text_has_the_lines_and_words_that_wc_counts(running):
    path = ROOT / "README.md"
    lines, words = map(int, subprocess.check_output(["wc", "-lw", path], text=True).split()[:2])

    file = running.finished(running.upload("README.md", path.read_bytes()))

    assert (file["profile"]["lines"], file["profile"]["encoding"]) == (lines, "utf-8")
    assert abs(file["profile"]["words"] - words) <= words // 100  # wc splits words by locale


def test_the_result_of_the_task_is_the_profile(running):
    file = running.finished(running.upload("a.txt", b"one two\n"))

    assert running.get(file["task"]["url"])["result"] == file["profile"]


def test_a_file_that_is_not_what_its_name_says_fails_at_its_first_attempt(running):
    file = running.finished(running.upload("holiday.jpg", b"%PDF-1.7 no picture"))

    task = running.get(file["task"]["url"])
    assert (file["state"], task["state"], task["attempt_count"]) == ("failed", "failed", 1)
    assert file["fault"] == task["attempts"][0]["error_message"]
    assert ".jpg stands for image/jpeg" in file["fault"]


def test_progress_is_seen_while_a_large_table_is_read(running):
    row = b"12,3.5,2026-01-01,some text,true\n" * 20
    size = len(row) * 6_000
    file = running.upload("large.csv", (row * 100 for _ in range(60)))

    def progress():
        return running.get(file["url"])["task"]["progress"]

    seen = until(lambda: (p := progress()) and p["step"] == "reading" and p)

    assert seen["of"] == size
    assert 0 <= seen["done"] < size
    assert running.finished(file)["profile"]["rows"] == 6_000 * 20


def memory(pid):
    """Return how much a process has had in memory at most, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def test_memory_is_flat_while_200_megabytes_are_uploaded(running):
    block = os.urandom(MEGABYTE)
    running.upload("warm.bin", [block] * 8)
    before = memory(running.api_pid)

    file = running.upload("large.bin", (block for _ in range(200)))

    assert file["size"] == 200 * MEGABYTE
    assert memory(running.api_pid) - before < 30 * MEGABYTE
    kept = running.folder / "files" / file["id"]
    digest = hashlib.sha256()
    for _ in range(200):
        digest.update(block)
    assert file["sha256"] == digest.hexdigest()
    assert kept.stat().st_size == file["size"]
    assert running.finished(file)["type"] == "application/octet-stream"


# Death


SWEEP = """
from actors.files import delete_old_files
from postlude import process

delete_old_files()
process.close()
"""


def test_an_api_killed_in_mid_upload_leaves_nothing_served_and_soon_nothing_at_all(tmp_path):
    stack = Stack(tmp_path)
    with stack.api() as api, socket.create_connection(("127.0.0.1", stack.port)) as client:
        client.sendall(announced(100 * MEGABYTE))
        client.sendall(HEAD + bytes(5 * MEGABYTE))
        [draft] = until(lambda: [p for p in tmp_path.glob("files/*") if p.stat().st_size])
        os.utime(draft, (0, 0))
        stack.run("-c", SWEEP)
        assert draft.exists()  # somebody writes it: a slow upload is no dead one
        kill(api)

    os.utime(draft, (0, 0))
    with stack.api():
        assert draft.suffix == ".part"
        assert stack.get(f"/files/{draft.name[:36]}")["code"] == "not-found"
        assert stack.get("/v1/tasks")["items"] == []
        stack.run("-c", SWEEP)

    assert list(tmp_path.glob("files/*")) == []


def test_a_client_that_hangs_up_in_mid_upload_leaves_nothing(running):
    before = set(running.folder.glob("files/*"))
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(announced(100 * MEGABYTE))
        client.sendall(HEAD + bytes(5 * MEGABYTE))
        until(lambda: set(running.folder.glob("files/*")) - before)

    until(lambda: set(running.folder.glob("files/*")) == before)


def test_a_client_over_the_limit_is_told_before_it_has_sent_it_all(running):
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(announced(10**12))
        answer = client.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"POSTLUDE_FILE_LIMIT" in answer
