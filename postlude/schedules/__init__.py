"""Schedules: when a task is to be made without anybody asking.

``declare`` has the decorators that stand above an actor, ``crontab`` and ``spec`` read what was
written, ``trigger`` says when it fires. None of them touches the ledger or the clock.
"""
