"""The `http` kind: one request to a public address."""

from executors.actions.http.kind import HttpAction

__all__ = ["HttpAction"]
