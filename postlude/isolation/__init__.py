"""Tasks that run in a child process of the worker, which can be killed without killing the worker.

The child is a program of its own (:mod:`postlude.isolation.child`), never a fork: it has no ledger,
no lock and no connection of its worker's, and does not outlive it. The two talk over a socket, in
JSON. A worker thread waits for its child as it would for the actor, so hooks, retries and outcomes
are those of any task.
"""
