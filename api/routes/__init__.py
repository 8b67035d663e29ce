"""The routes, one module a noun; what manages tasks is under ``v1``."""
