"""Run by alembic; the connection comes from ``service.runs.migrate``."""

from alembic import context

from service.runs.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
