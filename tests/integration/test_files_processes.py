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
import zlib
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

    def finished(self, file, patience_s=PATIENCE_S):
        return until(lambda: over(self.get(file["url"])), patience_s)


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


def until(ask, patience_s=PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return answer


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    return Stack(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def running(stack):
    with stack.api() as api, stack.worker() as worker:
        stack.api_pid, stack.worker_pid = api.pid, worker.pid
        yield stack


def png(width, height, pixels):
    """Return a PNG made by hand that says it is this large, with ``pixels`` in it."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I4s", len(data), kind) + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def test_a_png_is_what_was_drawn(running):
    red, blue = (255, 0, 0), (0, 0, 255)
    data = png(1200, 900, (b"\0" + bytes(red) * 600 + bytes(blue) * 600) * 900)

    file = running.finished(running.upload("stripes.png", data))

    profile = file["profile"]
    assert (file["state"], file["type"]) == ("processed", "image/png")
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert (profile["width"], profile["height"], profile["mode"]) == (1200, 900, "RGB")
    with Image.open(running.folder / "files" / f"{file['id']}.thumbnail.jpg") as thumbnail:
        assert thumbnail.size == (256, 192)
        for x, colour in ((20, red), (236, blue)):
            found = thumbnail.getpixel((x, 96))
            assert all(abs(a - b) < 12 for a, b in zip(found, colour, strict=True))


def test_a_jpeg_is_what_its_frame_says(running):
    written = io.BytesIO()
    Image.effect_mandelbrot((1200, 900), (-2, -1.2, 1, 1.2), 50).convert("RGB").save(
        written, "JPEG"
    )
    data = written.getvalue()

    file = running.finished(running.upload("mandelbrot.jpeg", data))

    height, width = struct.unpack(">HH", re.search(rb"\xff\xc0..\x08(....)", data, re.DOTALL)[1])
    profile = file["profile"]
    assert (file["type"], file["sha256"]) == ("image/jpeg", hashlib.sha256(data).hexdigest())
    assert (profile["width"], profile["height"], profile["mode"]) == (width, height, "RGB")
    assert (width, height) == (1200, 900)


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
    counted = subprocess.check_output(
        ["wc", "-l", "-w", "-m", path], text=True, env=os.environ | {"LC_ALL": "C.UTF-8"}
    )
    lines, words, characters = map(int, counted.split()[:3])

    file = running.finished(running.upload("README.md", path.read_bytes()))

    profile = file["profile"]
    assert (profile["lines"], profile["words"], profile["characters"]) == (lines, words, characters)
    assert (file["type"], profile["encoding"]) == ("text/plain", "utf-8")


def test_the_result_of_the_task_is_the_profile(running):
    file = running.finished(running.upload("a.txt", b"one two\n"))

    assert running.get(file["task"]["url"])["result"] == file["profile"]


def test_a_file_that_is_not_what_its_name_says_fails_at_its_first_attempt(running):
    file = running.finished(running.upload("holiday.jpg", b"%PDF-1.7 no picture"))

    task = running.get(file["task"]["url"])
    assert (file["state"], task["state"], task["attempt_count"]) == ("failed", "failed", 1)
    assert file["fault"] == task["attempts"][0]["error_message"]
    assert ".jpg stands for image/jpeg" in file["fault"]


def bomb_in_a_pdf():
    """Return a PDF of a few kB whose tree of pages lies in 100 MB of nothing."""
    packed = zlib.compress(b"2 0 <</Type/Pages/Kids[]/Count 0>>" + bytes(100_000_000), 9)
    body = b"%PDF-1.5\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n"
    places = [(0, 0, 65535), (1, len(b"%PDF-1.5\n"), 0), (2, 3, 0), (1, len(body), 0)]
    body += b"3 0 obj\n<</Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length %d>>stream\n" % len(
        packed
    )
    body += packed + b"\nendstream\nendobj\n"
    table = b"".join(struct.pack(">BIH", *place) for place in [*places, (1, len(body), 0)])
    return body + (
        b"4 0 obj\n<</Type/XRef/Size 5/W[1 4 2]/Root 1 0 R/Length %d>>stream\n%s\nendstream\nendobj\n"
        b"startxref\n%d\n%%%%EOF" % (len(table), table, len(body))
    )


HOSTILE = {
    "bomb.png": (png(60_000, 60_000, bytes(1_000_000)), "pixels"),
    "cut.png": (png(1200, 900, b"\0")[:60], "damaged"),
    "bomb.pdf": (bomb_in_a_pdf(), "made to do harm: Limit reached while decompressing"),
    "quotes.csv": (
        b'a,b\n"never closed,1\n2,3\n',
        "line 3 is no row of a table.*are its quotes right",
    ),
    "wide.csv": (b",".join([b"c"] * 100_000) + b"\n", "line 1 has 100000 columns"),
    "endless.csv": (b"x" * 3_000_000, "goes on for more than 1048576 characters"),
    "latin.txt": (b"\xff\x81\xfe" * 10, "stands for text/csv or text/plain"),
}


def test_files_that_mean_harm_fail_by_name_at_their_first_attempt_and_harm_nobody(running):
    until(lambda: len(family(running.worker_pid)) > 1)
    pids = [running.api_pid, *family(running.worker_pid)]
    uploaded = {name: running.upload(f"../../{name}", data) for name, (data, _) in HOSTILE.items()}
    looked_at = {name: running.finished(file) for name, file in uploaded.items()}

    for name, file in looked_at.items():
        task = running.get(file["task"]["url"])
        assert (file["name"], file["state"], file["profile"]) == (name, "failed", None)
        assert (task["state"], task["attempt_count"], task["crashes"]) == ("failed", 1, 0), name
        assert re.search(HOSTILE[name][1], file["fault"]), file["fault"]
        assert file["fault"] == task["attempts"][0]["error_message"]
        assert (running.folder / "files" / file["id"]).exists()
        assert not (running.folder / "files" / f"{file['id']}.thumbnail.jpg").exists()
    assert [running.api_pid, *family(running.worker_pid)] == pids
    assert max(memory(pids)) < 400 * MEGABYTE
    assert running.finished(running.upload("good.txt", b"good"))["state"] == "processed"


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


def family(pid):
    """Return a process and all that descend from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(relative for child in children for relative in family(int(child)))]


def memory(pids):
    """Return how much each process has had in memory at most since :func:`forget`, in bytes."""
    status = [Path(f"/proc/{pid}/status").read_text(encoding="ascii") for pid in pids]
    return [int(re.search(r"VmHWM:\s+(\d+) kB", each)[1]) * 1024 for each in status]


def forget(pids):
    """Let the peak of each process be what it has now."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


LONG = [pytest.mark.long, pytest.mark.timeout(900)]
ROW = b"12,3.5,2026-01-01,some text,true\n"
TABLE = (ROW * (MEGABYTE // len(ROW) + 1))[: MEGABYTE // len(ROW) * len(ROW)]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        pytest.param("large.bin", 200, id="200 MiB"),
        pytest.param("large.bin", 1024, id="1 GiB", marks=LONG),
        pytest.param("large.csv", 1024, id="table of 1 GiB", marks=LONG),
    ],
)
def test_memory_is_flat_while_a_large_file_is_uploaded_and_looked_at(running, name, blocks):
    block = TABLE if name == "large.csv" else os.urandom(MEGABYTE)
    running.finished(running.upload(name, [block] * 8))
    pids = [running.api_pid, *family(running.worker_pid)]
    assert len(pids) > 2
    forget(pids)
    before = memory(pids)

    file = running.upload(name, (block for _ in range(blocks)))
    looked_at = running.finished(file, patience_s=600)

    growth = [after - early for after, early in zip(memory(pids), before, strict=True)]
    assert max(growth) < 30 * MEGABYTE, growth
    assert file["size"] == blocks * len(block)
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(block)
    assert file["sha256"] == digest.hexdigest()
    kept = running.folder / "files" / file["id"]
    assert kept.stat().st_size == file["size"]
    assert looked_at["state"] == "processed"
    if name == "large.csv":
        assert looked_at["profile"]["rows"] == file["size"] // len(ROW)
    kept.unlink()


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
