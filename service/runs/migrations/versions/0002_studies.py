"""studies, and problems that are kept as changes of another."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.add_column("problems", sa.Column("derived", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(op.f("ix_problems_tenant_parent"), "problems", ["tenant", "parent"])
    op.create_table(
        "studies",
        sa.Column("position", POSITION, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=253), nullable=False),
        sa.Column("kind", sa.String(length=253), nullable=False),
        sa.Column("problem_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("scenarios", sa.LargeBinary(), nullable=False),
        sa.Column("conclusions", sa.LargeBinary(), nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("warnings", sa.Text(), nullable=False),
        sa.Column("cancel_mode", sa.String(length=16), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("trace_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_studies")),
        sa.UniqueConstraint("id", name=op.f("uq_studies_id")),
    )
    op.create_index(op.f("ix_studies_tenant_position"), "studies", ["tenant", "position"])
    op.create_index(op.f("ix_studies_tenant_problem_id"), "studies", ["tenant", "problem_id"])
    op.create_index(op.f("ix_studies_created_at"), "studies", ["created_at"])
    op.create_table(
        "study_runs",
        sa.Column("study", POSITION, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["study"], ["studies.position"], name=op.f("fk_study_runs_study"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study", "number", name=op.f("pk_study_runs")),
    )
    op.create_index(op.f("ix_study_runs_position"), "study_runs", ["position"])


def downgrade() -> None:
    """Take back; problems that are kept as changes go with their runs."""
    op.drop_table("study_runs")
    op.drop_table("studies")
    op.execute(
        "DELETE FROM runs WHERE EXISTS (SELECT 1 FROM problems p WHERE p.tenant = runs.tenant AND p.id = runs.problem_id AND p.derived)"
    )
    op.execute("DELETE FROM problems WHERE derived")
    op.drop_index(op.f("ix_problems_tenant_parent"), "problems")
    op.drop_column("problems", "derived")
