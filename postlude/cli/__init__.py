"""The ``postlude`` command: one module per noun, each importing what it needs only when it runs."""

from __future__ import annotations

from postlude.cli.app import main

__all__ = ["main"]
