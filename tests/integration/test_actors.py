"""What ``import actors`` brings along, and what stops it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = "import actors, dramatiq; print(*sorted(dramatiq.get_broker().actors), sep='\\n')"


def run(code, *, path, **variables):
    """Run ``code`` in a process of its own, with ``path`` on the module path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(path), "POSTLUDE_DATA_DIR": str(path)} | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def declare(folder, module, actor):
    (folder / f"{module}.py").write_text(
        f"import dramatiq\n@dramatiq.actor\ndef {actor}():\n    pass\n"
    )


def test_every_actor_of_the_application_is_declared(tmp_path):
    done = run(NAMES, path=tmp_path)

    assert done.returncode == 0, done.stderr
    assert {"send_notification", "write_log"} <= set(done.stdout.split())


def test_importing_the_actors_writes_nothing(tmp_path):
    done = run(NAMES, path=tmp_path, PYTHONDONTWRITEBYTECODE="1")

    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_modules_named_in_the_settings_are_imported_too(tmp_path):
    declare(tmp_path, "billing", "charge")
    declare(tmp_path, "reports", "render")

    done = run(NAMES, path=tmp_path, POSTLUDE_ACTORS="billing, reports")

    assert done.returncode == 0, done.stderr
    assert {"charge", "render", "send_notification"} <= set(done.stdout.split())


def test_a_module_that_does_not_exist_stops_the_process_and_is_named(tmp_path):
    for module in ("biling", "biling.actors"):
        done = run(NAMES, path=tmp_path, POSTLUDE_ACTORS=module)

        assert done.returncode != 0
        assert f"POSTLUDE_ACTORS: there is no module '{module}'" in done.stderr


def test_an_import_that_fails_inside_a_module_is_not_blamed_on_the_setting(tmp_path):
    (tmp_path / "billing.py").write_text("import missing_library\n")

    done = run(NAMES, path=tmp_path, POSTLUDE_ACTORS="billing")

    assert done.returncode != 0
    assert "No module named 'missing_library'" in done.stderr
    assert "POSTLUDE_ACTORS" not in done.stderr


def test_a_mail_server_that_makes_no_sense_stops_the_process(tmp_path):
    done = run(NAMES, path=tmp_path, POSTLUDE_MAIL_URL="smpt://ann:hunter2@mail.example.com")

    assert done.returncode != 0
    assert "POSTLUDE_MAIL_URL: the scheme is unknown" in done.stderr
    assert "hunter2" not in done.stderr
