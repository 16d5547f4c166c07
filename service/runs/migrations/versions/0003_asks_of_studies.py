"""runs that answer the asks of a study, and what these have come to."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.add_column("runs", sa.Column("task", sa.String(length=16), nullable=False, server_default="solve"))
    op.create_table(
        "asked",
        sa.Column("position", POSITION, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("packed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["position"], ["runs.position"], name=op.f("fk_asked_position"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("position", "key", name=op.f("pk_asked")),
    )


def downgrade() -> None:
    """Take back; runs that answer asks go with what they have come to."""
    op.drop_table("asked")
    op.execute("DELETE FROM answers WHERE part = 'asks'")
    op.execute("DELETE FROM study_runs WHERE EXISTS (SELECT 1 FROM runs r WHERE r.position = study_runs.position AND r.task <> 'solve')")
    op.execute("DELETE FROM runs WHERE task <> 'solve'")
    op.drop_column("runs", "task")
