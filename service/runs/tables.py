"""The tables: problems, runs with their events, incumbents and answers, studies with what their asks came to, and API keys.

Times are seconds since 1970 (UTC) and only told to people: nothing but the retention of old runs is decided by them, so
that a clock that jumps breaks nothing. Order is that of ``position``. A lease is a counter that its worker raises
(``beat``); whoever sees it stand still for long enough, on its own monotonic clock, may take the run away. ``attempt``
fences: a write names the attempt it belongs to, and one of an earlier attempt changes nothing.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column of exactly this type.
_Position = BigInteger().with_variant(Integer(), "sqlite")

problems = Table(
    "problems",
    metadata,
    Column("tenant", String(253), primary_key=True),
    Column("id", String(64), primary_key=True),  # from its content: see service.runs.problems
    Column("kind", String(253), nullable=False),
    Column("body", LargeBinary, nullable=False),  # canonical JSON, or the changes of a `derived` one; zlib-compressed when `packed`
    Column("packed", Boolean, nullable=False),
    Column("bytes", BigInteger, nullable=False),  # of the body before it is compressed
    Column("warnings", Text, nullable=False),  # JSON list of {pointer, code, detail}
    Column("parent", String(64)),
    Column("created_at", Float, nullable=False),
    Column("derived", Boolean, nullable=False, server_default=false()),  # its parent with changes: see service.runs.derived
    Index(None, "created_at"),
    Index(None, "tenant", "parent"),
    Index(None, "tenant", "bytes"),  # the sum for a tenant without reading the bodies
)

# The conditions of the partial indexes. Queries use these very texts: with a bound value in place of the literal
# neither database would use the index.
QUEUED = text("state = 'queued'")
CANCELLED = text("state = 'queued' AND cancel_mode IS NOT NULL")  # while it waited, and there is a plan to conclude from
LEASED = text("state IN ('starting', 'solving', 'verifying', 'cancelling')")

answers = Table(
    "answers",
    metadata,
    Column("position", _Position, primary_key=True),
    Column("part", String(32), primary_key=True),  # plan, certificate, explanations, conflict, metrics, trace, sensitivity
    Column("body", LargeBinary, nullable=False),  # JSON (log: text), zlib-compressed when `packed`
    Column("packed", Boolean, nullable=False),
)
"""The parts of a run's answer, by the position of the run that was solved (``runs.answered_by``)."""

runs = Table(
    "runs",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("tenant", String(253), nullable=False),
    Column("kind", String(253), nullable=False),
    Column("problem_id", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("limits", Text, nullable=False),  # JSON of the limits, the defaults written out
    Column("warm_start_run", String(40)),
    Column("cache_key", String(64)),  # of problem, limits, warm start and version; null: not to be cached
    Column("cached", Boolean, nullable=False, default=False),
    Column("answered_by", _Position),  # position of the run whose answers are this run's
    Column("attempt", Integer, nullable=False, default=0),
    Column("losses", Integer, nullable=False, default=0),  # attempts whose worker was lost
    Column("worker", String(200)),
    Column("beat", BigInteger, nullable=False, default=0),
    Column("cancel_mode", String(16)),
    Column("events", Integer, nullable=False, default=0),  # number of the last event
    Column("outcome", String(16)),
    Column("stop_reason", String(16)),
    Column("objective", Float),
    Column("bound", Float),
    Column("gap", Float),
    Column("seconds", Float),
    Column("spent_s", Float, nullable=False, default=0.0),  # of the time limit, by all attempts so far
    Column("verified", Boolean, nullable=False, default=False),
    Column("message", Text, nullable=False, default=""),
    Column("failure", Text),
    Column("request_id", String(64)),
    Column("trace_id", String(64)),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("task", String(16), nullable=False, server_default="solve"),  # solve; asks: those of a study, see service.runs.asking
    Index(None, "tenant", "position"),
    Index(None, "worker"),
    Index(None, "tenant", "cache_key"),
    Index("ix_runs_queue", text("priority DESC"), "position", sqlite_where=QUEUED, postgresql_where=QUEUED),
    Index("ix_runs_cancelled", "position", sqlite_where=CANCELLED, postgresql_where=CANCELLED),
    Index(None, "tenant", "problem_id"),
    Index(None, "answered_by"),
    Index(None, "finished_at"),
    Index("ix_runs_leased", "state", sqlite_where=LEASED, postgresql_where=LEASED),
)

run_events = Table(
    "run_events",
    metadata,
    Column("position", _Position, ForeignKey("runs.position", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),  # 1, 2, 3 ... without a gap
    Column("type", String(16), nullable=False),  # state, incumbent, bound, message
    Column("at", Float, nullable=False),
    Column("data", Text, nullable=False),  # JSON
)

incumbents = Table(
    "incumbents",
    metadata,
    Column("position", _Position, ForeignKey("runs.position", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("plan", LargeBinary, nullable=False),
    Column("packed", Boolean, nullable=False),
    Column("objectives", Text, nullable=False),  # JSON list, one for each goal
    Column("seconds", Float, nullable=False),
    Column("phase", String(64), nullable=False),
)
"""The best plan of each unfinished run, verified by the search that found it; a later attempt starts from it."""

asked = Table(
    "asked",
    metadata,
    Column("position", _Position, ForeignKey("runs.position", ondelete="CASCADE"), primary_key=True),
    Column("key", String(64), primary_key=True),  # ask-0, ask-1 ... for answers; else optimizer.study.rows.scenario_key
    Column("body", LargeBinary, nullable=False),  # JSON, zlib-compressed when `packed`
    Column("packed", Boolean, nullable=False),
)
"""What the asks of a study have come to before they are all answered; a later attempt goes on from it."""

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", String(253), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),  # of the request body
    Column("run_id", String(40), nullable=False),
    Column("created_at", Float, nullable=False),
    Index(None, "run_id"),
)

studies = Table(
    "studies",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("tenant", String(253), nullable=False),
    Column("kind", String(253), nullable=False),
    Column("problem_id", String(64), nullable=False),  # the base
    Column("name", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),  # JSON of the study, its base by id; zlib-compressed
    Column("scenarios", LargeBinary, nullable=False),  # JSON list, each with the number of its question; zlib-compressed
    Column("conclusions", LargeBinary),  # JSON, written once when every run has ended; zlib-compressed
    Column("count", Integer, nullable=False),  # of the scenarios
    Column("priority", Integer, nullable=False),
    Column("warnings", Text, nullable=False),  # JSON list of {pointer, code, detail}
    Column("cancel_mode", String(16)),
    Column("request_id", String(64)),
    Column("trace_id", String(64)),
    Column("created_at", Float, nullable=False),
    Index(None, "tenant", "position"),
    Index(None, "tenant", "problem_id"),
    Index(None, "created_at"),
)

study_runs = Table(
    "study_runs",
    metadata,
    Column("study", _Position, ForeignKey("studies.position", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),  # of the question: 0, 1, 2 ...
    Column("position", _Position, nullable=False),  # of the run; it stays as long as the study
    Column("key", String(64), nullable=False),  # optimizer.study.rows.scenario_key
    Index(None, "position"),
)
"""The different questions of a study, each a run; scenarios that ask the same share one. Its asks together are one more run."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),  # the public part of the key
    Column("hash", String(64), nullable=False),  # SHA-256 of the secret part
    Column("name", String(253), nullable=False),
    Column("tenant", String(253), nullable=False),
    Column("scopes", String(64), nullable=False),  # read, solve, admin: separated by spaces
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)
