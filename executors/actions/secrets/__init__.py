"""The `secrets` kind: a reference to a secret that a provider keeps."""

from executors.actions.secrets.asking import Asked, SecretsArguments
from executors.actions.secrets.google import token_of_key
from executors.actions.secrets.kind import SecretsAction
from executors.actions.secrets.vault import token_of as vault_token_of

__all__ = ["Asked", "SecretsAction", "SecretsArguments", "token_of_key", "vault_token_of"]
