"""The `transfer` kind: rows from one store to another."""

from executors.actions.transfer.kind import TransferAction

__all__ = ["TransferAction"]
