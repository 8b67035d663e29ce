"""SQLAlchemy Core statements, compiled once per dialect and run on the bare driver cursor.

The writer runs tens of thousands of statements a second; SQLAlchemy's execution layer would cost more
than SQLite itself. Building them with Core keeps one source for both databases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Executable
    from sqlalchemy.engine import Dialect


class Cursor(Protocol):
    """The part of a DB-API cursor that is used."""

    rowcount: int

    def execute(self, sql: str, parameters: Mapping[str, Any] = ..., /) -> Any:
        """Run one statement."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the remaining rows."""


def dialect_named(name: str) -> Dialect:
    """Return the dialect whose text takes parameters by name, as our cursors get them."""
    if name == "sqlite":
        return sqlite.dialect(paramstyle="named")
    message = f"there is no ledger for {name!r}; known: sqlite"
    raise ValueError(message)


class Statement:
    """One statement with named parameters; the text is made on first use, per dialect."""

    __slots__ = ("_construct", "_texts")

    def __init__(self, construct: Executable) -> None:
        self._construct = construct
        self._texts: dict[str, str] = {}

    def text(self, dialect: Dialect) -> str:
        """Return the SQL for ``dialect``; may be called by many threads, which then compile it twice."""
        text = self._texts.get(dialect.name)
        if text is None:
            compiled = self._construct.compile(  # type: ignore[attr-defined]
                dialect=dialect, compile_kwargs={"render_postcompile": True}
            )
            bound = [name for name, value in compiled.params.items() if value is not None]
            if bound:
                message = (
                    f"write these values as literals or as named parameters: {bound} in {compiled}"
                )
                raise TypeError(message)
            text = self._texts[dialect.name] = str(compiled)
        return text


class Tx:
    """An open transaction. Transitions run their statements on it; nobody but the writer commits it."""

    __slots__ = ("_cursor", "_dialect")

    def __init__(self, cursor: Cursor, dialect: Dialect) -> None:
        self._cursor = cursor
        self._dialect = dialect

    @property
    def dialect(self) -> str:
        """The database's name: ``sqlite`` or ``postgresql``."""
        return self._dialect.name

    def run(self, statement: Statement, /, **parameters: Any) -> int:
        """Run ``statement`` and return how many rows it changed."""
        self._cursor.execute(statement.text(self._dialect), parameters)
        return self._cursor.rowcount

    def rows(self, statement: Statement, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run ``statement`` and return what it selects or returns."""
        self._cursor.execute(statement.text(self._dialect), parameters)
        return self._cursor.fetchall()
