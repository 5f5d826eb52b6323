"""Django's Postgres backend, which starts the embedded server when a connection is first needed."""
