"""What is asked of every place that scripts come from."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event
from typing import Final

from executors.contract import ActionFailed, Credential

MAX_BYTES: Final = 1 << 20
"""Of a script."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A script's address at its place, who may read it, and how long that may take."""

    address: str
    credential: Credential | None
    seconds: float
    cancelled: Event

    def unavailable(self, why: object) -> ActionFailed:
        """The failure of a script that cannot be read, with no secret of the credential in it."""
        text = f"the script {self.address} cannot be read: {why}"
        return ActionFailed("script_unavailable", self.credential.mask(text) if self.credential else text)

    def field(self, *names: str) -> str:
        """A field of the credential. Raises: `ActionFailed`."""
        if self.credential is None:
            message = f"the script {self.address} is read with a credential only: name it with `auth`"
            raise ActionFailed("credential_invalid", message)
        found = next((self.credential.data[name] for name in names if self.credential.data.get(name)), None)
        if found is None:
            raise ActionFailed("credential_invalid", f"credential {self.credential.name!r} lacks {names[0]!r}")
        return found
