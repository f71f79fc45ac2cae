"""The schema: its tables, versions, migrations and policies, and reaching a database."""
