"""Connections to Postgres, and statements run on them: all that knows psycopg's parts."""
