"""The `http` kind: one request to a public address; and plain calls of other kinds to such addresses."""

from executors.actions.http.calls import CheckedCalls
from executors.actions.http.kind import HttpAction

__all__ = ["CheckedCalls", "HttpAction"]
