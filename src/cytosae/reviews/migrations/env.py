"""Run by Alembic: migrations on the connection that `cytosae.reviews.database` hands over."""

from __future__ import annotations

from alembic import context

from cytosae.reviews.review_tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
