"""A supervisor over stand-in programs, for the tests to shoot at: `supervised.py CONFIG` (JSON)."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

from postlude import logs
from postlude.policy.hanging import Limits
from postlude.settings import load
from postlude.supervisor.hanging import Beat, Watch
from postlude.supervisor.output import Output
from postlude.supervisor.role import Role
from postlude.supervisor.supervisor import Supervisor

# Each stand-in prints its process id first, so that the tests know whom to shoot.
PROGRAMS = {
    "steady": """
def leave(number, frame):
    say("got", signal.Signals(number).name)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, leave)
say("up", os.getpid())
while True: signal.pause()
""",
    "twice": """
got = []
signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
say("up", os.getpid())
while not got: signal.sigtimedwait([signal.SIGUSR1], 0.05)
signal.sigtimedwait([signal.SIGUSR1], 0.5)
say("times", len(got))
""",
    "stubborn": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say("up", os.getpid())
while True: signal.pause()
""",
    "diary": """
def leave(number, frame):
    open(f"{sys.argv[1]}/diary", "w").write("left in peace")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
say("up", os.getpid())
while True: signal.pause()
""",
    "broken": """
say("up", os.getpid())
sys.exit(3)
""",
    "parent": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    say("kin", os.getpid())
else:
    say("up", os.getpid())
while True: signal.pause()
""",
    "bereft": """
say("up", os.getpid())
if os.fork() == 0: os._exit(1)
while True: signal.pause()
""",
    "renewing with a fork": """
say("up", os.getpid())
open(f"{sys.argv[1]}/{os.getpid()}", "w").write("0")
if os.fork() == 0: os._exit(0)
if os.fork() == 0: signal.sigtimedwait([signal.SIGTERM], 8); os._exit(0)
signal.sigtimedwait([signal.SIGTERM], 0.5) and sys.exit(0)
open(f"{sys.argv[1]}/{os.getpid()}", "w").write("left")
signal.sigtimedwait([signal.SIGTERM], 4) and sys.exit(0)
say("renewed", os.getpid())
for count in itertools.count():
    open(f"{sys.argv[1]}/{os.getpid()}.2", "w").write(str(count))
    signal.sigtimedwait([signal.SIGTERM], 0.05) and sys.exit(0)
""",
    "odd": r"""
os.write(1, b"half")
os.write(1, b" a line\nlatin \xe9\r\nno newline at the end")
""",
    "beating": """
say("up", os.getpid())
for count in itertools.count():
    open(f"{sys.argv[1]}/{os.getpid()}", "w").write(str(count))
    signal.sigtimedwait([signal.SIGTERM], 0.05) and sys.exit(0)
""",
    "renewing": """
say("up", os.getpid())
for count in range(20):
    open(f"{sys.argv[1]}/{os.getpid()}", "w").write(str(count))
    signal.sigtimedwait([signal.SIGTERM], 0.05) and sys.exit(0)
open(f"{sys.argv[1]}/{os.getpid()}", "w").write("left")
say("left", os.getpid())
signal.sigtimedwait([signal.SIGTERM], 5) and sys.exit(0)
say("renewed", os.getpid())
for count in itertools.count():
    open(f"{sys.argv[1]}/{os.getpid()}.2", "w").write(str(count))
    signal.sigtimedwait([signal.SIGTERM], 0.05) and sys.exit(0)
""",
    "faint": """
say("up", os.getpid())
open(f"{sys.argv[1]}/{os.getpid()}", "w").write("0")
while True: signal.pause()
""",
    "visitor": """
say("seen everything")
sys.exit(7)
""",
}
PRELUDE = """
import itertools, os, signal, sys
say = lambda *words: os.write(1, (" ".join(map(str, words)) + "\\n").encode())
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
"""


def role(name: str, program: str, folder: str) -> Role:
    if program not in PROGRAMS:
        return Role(name, (program,))
    command = (sys.executable, "-I", "-S", "-c", PRELUDE + PROGRAMS[program], folder)
    return Role(
        name,
        command,
        beats=program in {"beating", "faint", "renewing", "renewing with a fork"},
        is_master=name == "worker",
        once=program == "visitor",
    )


def beats(folder: Path) -> list[Beat]:
    """Read what the beating programs wrote; half-written counts as an older beat."""
    written = {file.name: file.read_text() for file in folder.iterdir()}
    return [
        Beat(name, int(name.split(".")[0]), 0 if text == "left" else int(text or 0), text == "left")
        for name, text in written.items()
    ]


def main() -> int:
    config = json.loads(sys.argv[1])
    folder = config["folder"]
    roles = [role(name, program, folder) for name, program in config["roles"].items()]
    output = Output(sys.stdout.buffer, ["run", *config["roles"]])
    settings = load(log_format="console", data_dir=folder)
    logs.configure(settings, "run", stream=output.stream("run"))
    limits = Limits(
        lease=timedelta(seconds=config["lease"]), boot=timedelta(seconds=config["boot"])
    )
    supervisor = Supervisor(
        roles,
        output,
        deadline=timedelta(seconds=config["deadline"]),
        hanging=Watch(lambda: beats(Path(folder)), limits),
    )
    code = supervisor.run()
    sys.stdout.write(f"report: {supervisor.report}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
