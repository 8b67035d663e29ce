"""One module for each contestant: its task, and how it is sent.

Each declares ``send(number)``, a function or a coroutine function, and may declare ``prepare()``
for tables, and ``opened()``, an async context manager around all sending of an asyncio library.
Imported by the contestant's own processes only.
"""
