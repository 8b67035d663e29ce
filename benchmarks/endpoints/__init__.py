"""One FastAPI app for each way to accept a task over HTTP: ``POST /tasks/{number}``.

All do the same work but for the task: a path parameter is read, a small object is checked and sent.
"""
