"""What triggers by time: ``python -m scheduler`` ticks the schedules that :mod:`actors` declares.

Any number of them may run on one ledger: more of them are faster to recover, never doubled. The
engine is :mod:`postlude.scheduler`, which other applications run as ``postlude scheduler``.
"""
