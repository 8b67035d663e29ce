"""Every way in which a task changes, one file each; nothing else writes the tasks table.

A transition is a function of an open transaction. It is one guarded statement (state and generation,
or token) plus what follows from it, so late or repeated news changes nothing, and a transaction whose
commit is in doubt can be replayed. It returns whether it took effect.

One that ends tasks lets :mod:`postlude.ledger.transitions.follow` see to those that wait for them,
in the same transaction; a test looks for the call.
"""
