"""Running the `http` kind by itself: what a worker would lend it, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from executors.actions.http import HttpAction
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.errors import CredentialNotFound
from executors.running import Lent


@dataclass
class Asking:
    """One action kind with its credentials and its folder. `lent` is what the last run was lent."""

    action: HttpAction
    data_dir: Path = Path("/nonexistent")
    credentials: Mapping[str, Credential] = field(default_factory=dict)
    lent: Lent | None = None

    def run(self, *, node: str = "s", seconds: float = 10, cancelled: Event | None = None, **arguments: Any) -> Any:
        """What the step comes to. Raises: `ActionFailed`."""
        node_id = f"e1:{node}"
        request = ActionRequest("http", arguments, {}, "e1", node_id, node, 1, node_id, seconds)
        self.lent = Lent(self.data_dir, cancelled or Event(), self._find)
        return self.action.run(request, self.lent)

    def failure(self, **arguments: Any) -> ActionFailed:
        """How the step fails."""
        with pytest.raises(ActionFailed) as caught:
            self.run(**arguments)
        return caught.value

    def _find(self, name: str) -> Credential:
        if name not in self.credentials:
            raise CredentialNotFound(name)
        return self.credentials[name]
