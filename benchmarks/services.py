"""The servers that peers need: found by AMQP_URL, REDIS_URL and POSTGRES_URL, left as they were.

Everything made in them has a name of this run's own, and is removed again. A Redis database has no
room for that, so an empty one is asked for, and emptied at the end.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import TYPE_CHECKING, Any, Protocol

import pika
import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable

AMQP_URL = "amqp://guest:guest@127.0.0.1:5672/%2F"
REDIS_URL = "redis://127.0.0.1:6379/15"
POSTGRES_URL = "postgresql://postgres@127.0.0.1:5432/postgres"


class Service(Protocol):
    """One server. ``variables`` is what the processes of a contestant find it by."""

    variables: dict[str, str]

    def empty(self, queue: str) -> None:
        """Remove what a contestant has left in ``queue``."""

    def close(self) -> None:
        """Remove everything that was made here."""


class Absent(Exception):
    """The server does not answer, or is not ours to use."""


class RabbitMQ:
    """Queues whose names begin with this run's; also the exchanges of that name."""

    SUFFIXES = ("", ".DQ", ".XQ", ".dead")

    def __init__(self, _name: str) -> None:
        url = os.environ.get("AMQP_URL", AMQP_URL)
        self.variables = {"AMQP_URL": url}
        self._parameters = pika.URLParameters(url)
        self._used: set[str] = set()
        try:
            pika.BlockingConnection(self._parameters).close()
        except (pika.exceptions.AMQPError, OSError) as error:
            message = f"no RabbitMQ at AMQP_URL ({type(error).__name__})"
            raise Absent(message) from error

    def empty(self, queue: str) -> None:
        """Delete the queue and those that libraries make beside it; they make them anew."""
        self._used.add(queue)
        with contextlib.closing(pika.BlockingConnection(self._parameters)) as connection:
            channel = connection.channel()
            for suffix in self.SUFFIXES:
                channel.queue_delete(queue + suffix)
            channel.exchange_delete(queue)

    def close(self) -> None:
        """Delete every queue that was used."""
        for queue in sorted(self._used):
            self.empty(queue)


class Redis:
    """One database, which has to be empty when it is found."""

    def __init__(self, _name: str) -> None:
        url = os.environ.get("REDIS_URL", REDIS_URL)
        self.variables = {"REDIS_URL": url}
        try:
            redis = importlib.import_module("redis")
            self._client: Any = redis.Redis.from_url(url)
            left = self._client.dbsize()
        except ImportError as error:
            message = "no Redis client in this environment"
            raise Absent(message) from error
        except redis.RedisError as error:
            message = f"no Redis at REDIS_URL ({type(error).__name__})"
            raise Absent(message) from error
        if left:
            message = f"the Redis database at REDIS_URL is not empty ({left} keys)"
            raise Absent(message)

    def empty(self, queue: str) -> None:
        """Empty the database, which nobody else uses."""
        del queue
        self._client.flushdb()

    def close(self) -> None:
        """Leave it as empty as it was."""
        self._client.flushdb()
        self._client.close()


class PostgreSQL:
    """A database of this run's own."""

    def __init__(self, name: str) -> None:
        url = os.environ.get("POSTGRES_URL", POSTGRES_URL)
        self._name = sql.Identifier(name)
        try:
            self._connection = psycopg.connect(url, autocommit=True)
            self._connection.execute(sql.SQL("CREATE DATABASE {}").format(self._name))
        except psycopg.Error as error:
            message = f"no PostgreSQL at POSTGRES_URL ({type(error).__name__})"
            raise Absent(message) from error
        self.variables = {"POSTGRES_URL": psycopg.conninfo.make_conninfo(url, dbname=name)}

    def empty(self, queue: str) -> None:
        """Do nothing: the contestant empties its own tables."""

    def close(self) -> None:
        """Drop the database."""
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(self._name)
        self._connection.execute(drop)
        self._connection.close()


KINDS: dict[str, type[RabbitMQ | Redis | PostgreSQL]] = {
    "RabbitMQ": RabbitMQ,
    "Redis": Redis,
    "PostgreSQL": PostgreSQL,
}


class Services:
    """Those of them that are wanted and answer; ``absent`` says why the others do not count."""

    def __init__(self, wanted: Iterable[str], name: str) -> None:
        self.found: dict[str, Service] = {}
        self.absent: dict[str, str] = {}
        for kind in sorted(set(wanted)):
            try:
                self.found[kind] = KINDS[kind](name)
            except Absent as error:
                self.absent[kind] = str(error)

    @property
    def variables(self) -> dict[str, str]:
        """What processes find them by."""
        return {name: url for each in self.found.values() for name, url in each.variables.items()}

    def close(self) -> None:
        """Leave every server as it was."""
        for each in self.found.values():
            each.close()
