"""The scheduler's process: makes tasks when their time comes, runs none.

Any number of them may run on one ledger: more of them are faster to recover, never doubled.
"""
