"""Runs the migrations on the connection that `schema.migrate` hands over."""

from alembic import context

from parley_server.storage.schema.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
