"""The `secrets` kind: a reference to a secret that a provider keeps."""

from executors.actions.secrets.kind import SecretsAction

__all__ = ["SecretsAction"]
