"""runs, problems, answers and keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
QUEUED = "state = 'queued'"
CANCELLED = "state = 'queued' AND cancel_mode IS NOT NULL"
LEASED = "state IN ('starting', 'solving', 'verifying', 'cancelling')"


def upgrade() -> None:
    """Apply."""
    _answers()
    _api_keys()
    _idempotency()
    _problems()
    _runs()
    _incumbents()
    _run_events()


def _answers() -> None:
    op.create_table(
        "answers",
        sa.Column("position", POSITION, nullable=False),
        sa.Column("part", sa.String(length=32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("packed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("position", "part", name=op.f("pk_answers")),
    )


def _api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("tenant", sa.String(length=253), nullable=False),
        sa.Column("scopes", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )


def _idempotency() -> None:
    op.create_table(
        "idempotency",
        sa.Column("tenant", sa.String(length=253), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_run_id"), "idempotency", ["run_id"])


def _problems() -> None:
    op.create_table(
        "problems",
        sa.Column("tenant", sa.String(length=253), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=253), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("packed", sa.Boolean(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("warnings", sa.Text(), nullable=False),
        sa.Column("parent", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_problems")),
    )
    op.create_index(op.f("ix_problems_created_at"), "problems", ["created_at"])
    op.create_index(op.f("ix_problems_tenant_bytes"), "problems", ["tenant", "bytes"])


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("position", POSITION, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=253), nullable=False),
        sa.Column("kind", sa.String(length=253), nullable=False),
        sa.Column("problem_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("warm_start_run", sa.String(length=40), nullable=True),
        sa.Column("cache_key", sa.String(length=64), nullable=True),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("answered_by", POSITION, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("cancel_mode", sa.String(length=16), nullable=True),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("stop_reason", sa.String(length=16), nullable=True),
        sa.Column("objective", sa.Float(), nullable=True),
        sa.Column("bound", sa.Float(), nullable=True),
        sa.Column("gap", sa.Float(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("spent_s", sa.Float(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("trace_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_runs")),
        sa.UniqueConstraint("id", name=op.f("uq_runs_id")),
    )
    op.create_index("ix_runs_leased", "runs", ["state"], sqlite_where=sa.text(LEASED), postgresql_where=sa.text(LEASED))
    op.create_index(
        "ix_runs_queue", "runs", [sa.text("priority DESC"), "position"], sqlite_where=sa.text(QUEUED), postgresql_where=sa.text(QUEUED)
    )
    op.create_index(op.f("ix_runs_tenant_cache_key"), "runs", ["tenant", "cache_key"])
    op.create_index(op.f("ix_runs_tenant_position"), "runs", ["tenant", "position"])
    op.create_index(op.f("ix_runs_worker"), "runs", ["worker"])
    op.create_index("ix_runs_cancelled", "runs", ["position"], sqlite_where=sa.text(CANCELLED), postgresql_where=sa.text(CANCELLED))
    op.create_index(op.f("ix_runs_tenant_problem_id"), "runs", ["tenant", "problem_id"])
    op.create_index(op.f("ix_runs_answered_by"), "runs", ["answered_by"])
    op.create_index(op.f("ix_runs_finished_at"), "runs", ["finished_at"])


def _incumbents() -> None:
    op.create_table(
        "incumbents",
        sa.Column("position", POSITION, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=False),
        sa.Column("packed", sa.Boolean(), nullable=False),
        sa.Column("objectives", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("phase", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["position"], ["runs.position"], name=op.f("fk_incumbents_position"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_incumbents")),
    )


def _run_events() -> None:
    op.create_table(
        "run_events",
        sa.Column("position", POSITION, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["position"], ["runs.position"], name=op.f("fk_run_events_position"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("position", "number", name=op.f("pk_run_events")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("run_events")
    op.drop_table("incumbents")
    op.drop_table("runs")
    op.drop_table("problems")
    op.drop_table("idempotency")
    op.drop_table("api_keys")
    op.drop_table("answers")
