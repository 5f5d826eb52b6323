"""The `save` kind: results written somewhere, each storage behind one door (`storage.Storage`)."""

from executors.actions.save.kind import SaveAction

__all__ = ["SaveAction"]
