"""The `secrets` kind: sees that a secret is there, and fetches it for the steps that use it.

Knows how a step asks; each provider's protocol is a module of its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from executors import contract
from executors.actions.secrets import amazon, azure, custom, google, local, vault
from executors.actions.secrets.asking import Asked, Call, Provider, Secret, SecretsArguments
from executors.contract import ActionContext, ActionFailed, ActionRequest
from executors.stores.http_calls import CheckedCalls

PROVIDERS: Final[Mapping[str, Provider]] = {
    "google": google.fetch,
    "aws": amazon.fetch,
    "azure": azure.fetch,
    "vault": vault.fetch,
    "env": local.fetch_from_environment,
    "file": local.fetch_from_file,
    "credential": local.fetch_from_credential,
    "custom": custom.fetch,
}


EXAMPLE: Final = """
apiVersion: noetl.io/v1
kind: Playbook
name: fetched
path: examples/fetched
workflow:
  - {step: start, type: secrets, provider: env, secret_name: shop_token, next: count}
  - step: count
    type: python
    with: {token: "{{ start.secret_value }}"}
    code: "def main(token): return len(token)"
    next: end
  - {step: end, result: "{{ count.data }}"}
"""


class SecretsAction(contract.ActionKind):
    """Sees that a provider has a secret, and gives a reference to it: the steps that use it fetch it anew.

    The executions write the reference into the result: a value never leaves the worker.
    """

    name: ClassVar[str] = "secrets"
    Arguments: ClassVar[type[contract.Arguments]] = SecretsArguments
    result: ClassVar[str] = (
        "`{secret_value, version, provider, reference}`. `secret_value` is a reference: `{{ step.secret_value }}` by "
        "itself in its braces, in the arguments and inputs of later steps of the execution, is the secret there."
    )
    errors: ClassVar[Mapping[str, str]] = {
        "secret_not_found": "there is no such secret, or it is empty",
        "secret_forbidden": "the provider refuses what it was shown, or there was nothing to show",
        "secret_provider_failed": "the provider gives no answer, or one that cannot be read",
        "credential_invalid": "the credential lacks what the provider wants",
        "auth_invalid": "`auth` leads to no credential, or to several",
        "extra_missing": "a package is not installed; the message names the extra",
    }
    example: ClassVar[str] = EXAMPLE

    def __init__(self, send: Call, folder: Path | None = None) -> None:
        """`send` makes HTTP requests; `folder` holds the files of the provider `file`."""
        self._send = send
        self._folder = folder

    @classmethod
    def build(cls, settings: Any) -> Self:
        """With the networks and the folder that the settings allow. Raises: `ValueError` for a malformed network."""
        networks = getattr(settings, "NOETL_HTTP_ALLOWED_NETWORKS", ())
        return cls(CheckedCalls(networks), getattr(settings, "NOETL_SECRETS_DIR", None))

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """`{provider, version}` of a secret that is there.

        Raises: `ActionFailed` (`secret_not_found`, `secret_forbidden`, `secret_provider_failed`, `extra_missing`).
        """
        arguments = SecretsArguments.check(request.arguments)
        found = self._fetch(arguments, context, request.timeout_seconds)
        return {"provider": arguments.provider, "version": found.version}

    def fetch(self, arguments: Mapping[str, Any], context: ActionContext, seconds: float) -> str:
        """The value that the arguments of such a step name, within so many seconds. Raises: `ActionFailed`."""
        return self._fetch(SecretsArguments.check(arguments), context, seconds).value

    def _fetch(self, arguments: SecretsArguments, context: ActionContext, seconds: float) -> Secret:
        deadline = time.monotonic() + min(arguments.timeout, seconds)
        asked = Asked(arguments, context, self._send, self._folder, deadline)
        found = PROVIDERS[arguments.provider](asked)
        context.keep_secret([found.value])
        if not found.value:
            raise ActionFailed("secret_not_found", f"the secret {arguments.secret_name!r} is empty")
        return found
