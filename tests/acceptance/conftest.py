"""The application as real processes, for the tests to feed, starve and shoot."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from installation import Site


class Disk:
    """A small disk of its own at ``folder``."""

    def __init__(self, folder):
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self):
        """Leave no byte free."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while filler.write(bytes(size)) == size:
                        pass

    def make_room(self):
        self._filler.unlink()


@pytest.fixture
def disk():
    """Mount a small disk at a folder; call it with the folder and a size in kB."""
    mounted = []

    def mount(folder, size_kb):
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "postlude", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(
                f"a full disk needs a Linux where root may mount one: {done.stderr.strip()}"
            )
        mounted.append(folder)
        return Disk(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def site(tmp_path, disk):
    """Make a site; call it with what :class:`Site` takes. Its processes end with the test."""
    sites = []

    def make(**wanted):
        sites.append(Site(tmp_path, **wanted))
        return sites[-1]

    yield make
    for made in sites:
        made.close()
