"""The `notify` kind: a message to people, by the URLs of the services that carry it."""

from executors.actions.notify.kind import NotifyAction

__all__ = ["NotifyAction"]
