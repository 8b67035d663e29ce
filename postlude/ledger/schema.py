"""The ledger's tables. A column lives here and in a migration, nowhere else.

Instants are microseconds since 1970 UTC (:mod:`postlude.ledger.clock`), documents are JSON text.
Booleans that the hot path compares are integers 0/1, so that one compiled text serves every driver.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

VERSION = 1
"""The schema that this code was written for."""

metadata = MetaData()
Sequence = BigInteger().with_variant(Integer, "sqlite")

meta = Table(
    "postlude_meta",
    metadata,
    Column("id", SmallInteger, primary_key=True),
    Column("version", Integer, nullable=False, comment="schema version of the tables"),
    Column(
        "compatible_from", Integer, nullable=False, comment="oldest code version that may work here"
    ),
)

tasks = Table(
    "postlude_tasks",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False),
    Column("actor", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("state", String(9), nullable=False),
    Column("reason", Text),
    Column("priority", Integer, nullable=False, comment="lower runs first, as in Dramatiq"),
    Column("run_at", BigInteger, comment="NULL: as soon as possible; its claim reads no clock"),
    Column("generation", Integer, nullable=False, comment="raised by every move to queued"),
    Column("token", String(36), comment="proof of the claim that holds it"),
    Column(
        "owner", String(36), comment="incarnation that promised (accepted) or holds (running) it"
    ),
    Column("attempts", Integer, nullable=False),
    Column("retries", Integer, nullable=False, comment="failed attempts that were given another"),
    Column(
        "crashes", Integer, nullable=False, comment="deaths that only this task can have caused"
    ),
    Column(
        "suspect",
        SmallInteger,
        nullable=False,
        comment="how far it is suspected: postlude.policy.crash",
    ),
    Column("cancel_requested", SmallInteger, nullable=False),
    Column("result", Text),
    Column("progress", Text),
    Column("correlation_id", Text),
    Column("trace_context", Text),
    Column("waits_for", String(36), comment="task or group that it waits, or has waited, for"),
    Column("followed", SmallInteger, nullable=False, comment="1: a step or a group waits for it"),
    Column("group_id", String(36), comment="group that is complete when its members have ended"),
    Column("pipe_into", Text, comment="parameter that takes the result of what it waits for"),
    Column("published_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column(
        "renewed_at", BigInteger, comment="somebody asked for a retry: max_age counts from here"
    ),
    Column("claimed_at", BigInteger),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("duplicate_of", String(36), comment="the task that had its unique key"),
)
Index("postlude_tasks_id", tasks.c.id, unique=True)
Index(
    "postlude_tasks_ready",
    tasks.c.queue,
    tasks.c.suspect,
    tasks.c.priority,
    tasks.c.seq,
    tasks.c.actor,
    sqlite_where=text("state = 'queued'"),
    postgresql_where=text("state = 'queued'"),
)
Index(
    "postlude_tasks_due",
    tasks.c.run_at,
    sqlite_where=text("state = 'scheduled'"),
    postgresql_where=text("state = 'scheduled'"),
)
Index(
    "postlude_tasks_owner",
    tasks.c.owner,
    sqlite_where=text("owner IS NOT NULL"),
    postgresql_where=text("owner IS NOT NULL"),
)
Index("postlude_tasks_state", tasks.c.state, tasks.c.seq)
Index("postlude_tasks_actor", tasks.c.actor, tasks.c.seq)
Index("postlude_tasks_queue", tasks.c.queue, tasks.c.seq)
Index(
    "postlude_tasks_finished",
    tasks.c.state,
    tasks.c.finished_at,
    sqlite_where=text(
        "finished_at IS NOT NULL AND (waits_for IS NULL OR reason IS NOT 'upstream-failed')"
    ),
    postgresql_where=text(
        "finished_at IS NOT NULL"
        " AND (waits_for IS NULL OR reason IS DISTINCT FROM 'upstream-failed')"
    ),
)
Index(
    "postlude_tasks_waiting",
    tasks.c.waits_for,
    sqlite_where=text("waits_for IS NOT NULL"),
    postgresql_where=text("waits_for IS NOT NULL"),
)
Index(
    "postlude_tasks_members",
    tasks.c.group_id,
    sqlite_where=text("group_id IS NOT NULL AND finished_at IS NULL"),
    postgresql_where=text("group_id IS NOT NULL AND finished_at IS NULL"),
)

attempts = Table(
    "postlude_attempts",
    metadata,
    Column(
        "task",
        Sequence,
        ForeignKey("postlude_tasks.seq", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("worker", String(36), nullable=False, comment="incarnation"),
    Column("claimed_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("outcome", Text, nullable=False),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("traceback", Text),
    Column("fingerprint", String(16), comment="failures of one kind share it"),
    Column("logs", Text, comment="JSON list of the lines it logged"),
)

deleted = Table(
    "postlude_deleted",
    metadata,
    Column("id", String(36), primary_key=True, comment="of a task, if it does not tell its age"),
    Column("deleted_at", BigInteger, nullable=False),
)
Index("postlude_deleted_at", deleted.c.deleted_at)

keys = Table(
    "postlude_keys",
    metadata,
    Column("scope", Text, primary_key=True, comment="what the key is unique among"),
    Column("key", Text, primary_key=True),
    Column("task", String(36), nullable=False, comment="who has it; of an answer, its first task"),
    Column("held", Text, nullable=False, comment="until when: a Hold"),
    Column("expires_at", BigInteger, comment="NULL: the state of the task decides"),
    Column("fingerprint", String(64), comment="of the request that was answered"),
    Column("answer", Text),
)
Index("postlude_keys_task", keys.c.task)
Index(
    "postlude_keys_expiry",
    keys.c.expires_at,
    sqlite_where=text("expires_at IS NOT NULL"),
    postgresql_where=text("expires_at IS NOT NULL"),
)

incarnations = Table(
    "postlude_incarnations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", Text, nullable=False, comment="api, worker, scheduler, …"),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False, comment="version of the code"),
    Column("queues", Text, nullable=False, comment="JSON list"),
    Column(
        "heartbeat", BigInteger, nullable=False, comment="a counter; standing still means silence"
    ),
    Column("started_at", BigInteger, nullable=False),
    Column(
        "beat_at", BigInteger, nullable=False, comment="for people; judged by the counter alone"
    ),
    Column("ended_at", BigInteger),
    Column("end", Text, comment="left, or died: how it ended"),
)
Index(
    "postlude_incarnations_alive",
    incarnations.c.id,
    sqlite_where=text("ended_at IS NULL"),
    postgresql_where=text("ended_at IS NULL"),
)

actors = Table(
    "postlude_actors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("fingerprint", String(16), primary_key=True, comment="hash of the arguments' schema"),
    Column("incarnation", String(36), primary_key=True),
    Column("queue", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("schema", Text, nullable=False),
)

schedules = Table(
    "postlude_schedules",
    metadata,
    Column("id", Text, primary_key=True),
    Column("incarnation", String(36), nullable=False, comment="a recreated schedule is a new one"),
    Column("actor", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("misfire", Text, nullable=False),
    Column("misfire_window", BigInteger, nullable=False, comment="microseconds"),
    Column("overlap", Text, nullable=False),
    Column("jitter", BigInteger, nullable=False, comment="microseconds"),
    Column("declared_by", Text, nullable=False, comment="code:<application>, or api"),
    Column("next_at", BigInteger, comment="NULL: will not fire again"),
    Column("last_at", BigInteger),
    Column("paused", SmallInteger, nullable=False),
    Column("broken", Text, comment="why it cannot fire"),
    Column("created_at", BigInteger, nullable=False, comment="anchor of intervals"),
    Column("updated_at", BigInteger, nullable=False),
)
Index(
    "postlude_schedules_due",
    schedules.c.next_at,
    sqlite_where=text("next_at IS NOT NULL"),
    postgresql_where=text("next_at IS NOT NULL"),
)

ticks = Table(
    "postlude_ticks",
    metadata,
    Column("schedule", Text, primary_key=True),
    Column("incarnation", String(36), primary_key=True, comment="of the schedule"),
    Column("scheduled_for", BigInteger, primary_key=True, autoincrement=False),
    Column("ticked_at", BigInteger, nullable=False),
    Column("task", String(36)),
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
)
Index("postlude_ticks_task", ticks.c.task)
