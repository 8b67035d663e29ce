"""The ledger: the durable record of every task, and the only thing that must survive.

It knows nothing of HTTP, brokers or actors. :mod:`postlude.ledger.ledger` opens it.
"""
