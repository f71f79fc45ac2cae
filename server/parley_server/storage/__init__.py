"""Postgres: tables, statements, and the store that runs them. Rows stop here."""
