"""What a plan asks the shell for: stored values that it needs and that were not loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

FrameKey = tuple[int, ...]
"""Which frame: (place of the loop's step, item's index, ...), outermost first; () is the root."""


@dataclass(slots=True)
class Wanted:
    """Stored values to load.

    `results`: outcomes by node id. `trees`: all outcomes at node ids that begin so. `transitions`: inputs by seq.
    `items`: items of loops by (node id of the loop's step, index). `signals`: data by seq. `frames`: by key;
    `all_frames`: every one. `completed`: node ids of the completed steps, in the order of their ends. `catalog`:
    paths by prefix. `recorded`: what the execution that this one reruns recorded, by node id without the execution.
    `kept`: what steps gave whose save is running, by the seq of the event that keeps it.
    """

    results: set[str] = field(default_factory=set)
    trees: set[str] = field(default_factory=set)
    transitions: set[int] = field(default_factory=set)
    items: set[tuple[str, int]] = field(default_factory=set)
    signals: set[int] = field(default_factory=set)
    frames: set[FrameKey] = field(default_factory=set)
    all_frames: bool = False
    completed: bool = False
    catalog: set[str] = field(default_factory=set)
    recorded: set[str] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)

    def __bool__(self) -> bool:
        return any(getattr(self, part.name) for part in fields(self))


class MissingFacts(Exception):
    """The plan needs more stored values: load them and plan again from the same state."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        super().__init__(str(wanted))
