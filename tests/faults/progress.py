"""What a part of the fault suite has done so far, kept in a file, so that it goes on where it was stopped."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Broken(Exception):
    """Something does not hold that must: what, and how to see it again."""


@dataclass
class Progress:
    """The state of one part: a JSON object in a file of its own. `deadline`: when this run has to stop (monotonic)."""

    file: Path
    deadline: float
    state: dict[str, Any]

    @classmethod
    def load(cls, folder: Path, part: str, minutes: float) -> Progress:
        """Of this part, as the last run has left it; anew when that one had come to its end."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{part}.json"
        state = json.loads(file.read_text()) if file.exists() else {}
        if state.get("complete"):
            state = {}
        return cls(file, time.monotonic() + 60 * minutes, state)

    @property
    def left_seconds(self) -> float:
        """Until this run has to stop; below 0 when it has had to."""
        return self.deadline - time.monotonic()

    @property
    def is_time_up(self) -> bool:
        """Whether this run has to stop."""
        return self.left_seconds <= 0

    def count(self, **more: float) -> None:
        """Add to the counts and save."""
        counts = self.state.setdefault("counts", {})
        for name, number in more.items():
            counts[name] = counts.get(name, 0) + number
        self.save()

    def of(self, name: str) -> int:
        """A count so far, over all runs."""
        return int(self.state.get("counts", {}).get(name, 0))

    def complete(self) -> None:
        """All is done; the next run begins anew."""
        self.state["complete"] = True
        self.save()

    def save(self) -> None:
        """Write the state, whole or not at all."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.state, indent=1))
        new.replace(self.file)


def tell(line: str) -> None:
    """One line of the report."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
