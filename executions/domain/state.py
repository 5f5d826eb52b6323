"""The state of an execution: a fold of its events.

Knows which steps are waiting, running and over, in a tree of frames (decision 0013), and its own stored form; holds no
results and no rendered values. How each event advances it is `fold`'s matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Final, Literal

from catalog.domain.playbook import Playbook
from executions.domain import events as ev
from executions.domain.frames import (
    Frame,
    LoopState,
    decode_frame,
    encode_frame,
)
from executions.domain.wanted import FrameKey, MissingFacts, Wanted

FORMAT = 1 + ev.FORMAT
"""Version of the stored form. Another one in the database means: rebuild from the log.

A newer form of events is a newer one of the state as well: an older release then looks at the log, which refuses it,
and does not go on from a state that it seems to know.
"""

ROOT: Final[FrameKey] = ()

Status = Literal["pending", "running", "paused", "completed", "failed", "cancelled"]
Phase = Literal["", "undoing", "finally", "notifying"]

TERMINAL_STATUS: dict[str, Status] = {
    ev.EXECUTION_COMPLETED: "completed",
    ev.EXECUTION_FAILED: "failed",
    ev.EXECUTION_CANCELLED: "cancelled",
}


class Agenda:
    """The frames that something may follow from, the innermost first, then in order."""

    def __init__(self) -> None:
        self._keys: set[FrameKey] = set()
        self._heap: list[tuple[int, FrameKey]] = []

    def add(self, key: FrameKey) -> None:
        """Put a frame on it."""
        if key not in self._keys:
            self._keys.add(key)
            heappush(self._heap, (-len(key), key))

    def discard(self, key: FrameKey) -> None:
        """Take a frame off it."""
        self._keys.discard(key)

    def clear(self) -> None:
        """Take all off it."""
        self._keys.clear()
        self._heap.clear()

    def first(self) -> FrameKey | None:
        """The frame whose turn it is."""
        while self._heap:
            key = self._heap[0][1]
            if key in self._keys:
                return key
            heappop(self._heap)
        return None


@dataclass(slots=True)
class State:
    """Where an execution stands after the event `seq`.

    `frames` holds the root and those item frames that were loaded or opened; `dirty` are those that have changed,
    `dropped` those that are gone with all below them, `agenda` those that something may follow from: all three
    since the state was read. `phase` tells what comes between the workflow and the end: `closing` is `{status, error}`
    then (and `cancels`, how many there were when notifying began), and `undo` the nodes still to be undone, the first
    of them with its outcome in `undo_outcome`.
    `signals` are those nobody has waited for yet, by name; `awaiting` the waits that got none yet. `override` is what
    `steps_override` lists, `[{step, inputs}]`, and `position` counts those that are over. `reuse` is `{of, fresh}` in a
    rerun: which execution's results may be taken over, and which steps run in any case.
    """

    seq: int = 0
    status: Status = "pending"
    frames: dict[FrameKey, Frame] = field(default_factory=lambda: {ROOT: Frame()})
    phase: Phase = ""
    closing: dict[str, Any] | None = None
    undo: list[str] = field(default_factory=list)
    undo_outcome: Literal["", "success", "error"] = ""
    cancels: int = 0
    timed_out: bool = False
    position: int = 0
    override: list[dict[str, Any]] | None = None
    reuse: dict[str, Any] | None = None
    signals: dict[str, list[int]] = field(default_factory=dict)
    awaiting: dict[str, list[tuple[FrameKey, int]]] = field(default_factory=dict)
    dirty: set[FrameKey] = field(default_factory=set, compare=False)
    dropped: set[FrameKey] = field(default_factory=set, compare=False)
    agenda: Agenda = field(default_factory=Agenda, compare=False)

    @property
    def root(self) -> Frame:
        """The frame of the workflow's own steps."""
        return self.frames[ROOT]

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can change it any more."""
        return self.status in ("completed", "failed", "cancelled")

    def frame(self, key: FrameKey) -> Frame:
        """A frame that exists. Raises: `MissingFacts` when it was not loaded."""
        found = self.frames.get(key)
        if found is None:
            raise MissingFacts(Wanted(frames={key}))
        return found

    def has_frame(self, key: FrameKey) -> bool:
        """Whether an item's frame is open, by the counters of its loop. Raises: `MissingFacts`."""
        if key in self.frames:
            return True
        *outer, step, item = key
        if not self.has_frame(tuple(outer)):
            return False
        live = self.frame(tuple(outer)).live.get(step)
        return live is not None and live.loop is not None and live.loop.runs(item)

    def touch(self, key: FrameKey) -> None:
        """Note that a frame has changed."""
        self.dirty.add(key)
        self.agenda.add(key)

    def drop_item(self, key: FrameKey) -> None:
        """Forget the frame of an item, and those of the items of loops inside it."""
        frame = self.frames.pop(key, None)
        self.dirty.discard(key)
        self.agenda.discard(key)
        self.dropped.add(key)
        if frame is not None:
            for step, live in frame.live.items():
                if live.loop is not None:
                    self._drop_items((*key, step), live.loop)
        self._forget_waits(key)

    def drop_items_of(self, key: FrameKey, step: int, loop: LoopState) -> None:
        """Forget the frames of all items of a loop that is called off."""
        self.dropped.add((*key, step))
        self._drop_items((*key, step), loop)
        self._forget_waits((*key, step))

    def _drop_items(self, key: FrameKey, loop: LoopState) -> None:
        for item in range(loop.started):
            if (*key, item) in self.frames:
                self.drop_item((*key, item))

    def _forget_waits(self, key: FrameKey) -> None:
        for name, waits in list(self.awaiting.items()):
            self._await(name, [wait for wait in waits if wait[0][: len(key)] != key])

    def stop_waiting(self, key: FrameKey, step: int) -> None:
        """Forget that a step waits for a signal."""
        for name, waits in list(self.awaiting.items()):
            self._await(name, [wait for wait in waits if wait != (key, step)])

    def _await(self, name: str, waits: list[tuple[FrameKey, int]]) -> None:
        if waits:
            self.awaiting[name] = waits
        else:
            self.awaiting.pop(name, None)


def frame_key(playbook: Playbook, step: int, path: tuple[int, ...]) -> FrameKey:
    """The frame that a step runs in, by the indexes of the items around it."""
    return tuple(part for pair in zip(playbook.enclosing[step], path, strict=False) for part in pair)


def path_of(key: FrameKey) -> tuple[int, ...]:
    """The indexes of the items that a frame is in, outermost first."""
    return key[1::2]


# -- the stored form ---------------------------------------------------------------------------------


def encode(state: State) -> dict[str, Any]:
    """The state without the items' frames, as JSON-like data. The inverse of `decode`."""
    data: dict[str, Any] = {
        "format": FORMAT,
        "seq": state.seq,
        "status": state.status,
        "root": encode_frame(state.root),
        "phase": state.phase,
        "closing": state.closing,
        "undo": state.undo,
        "undo_outcome": state.undo_outcome,
        "cancels": state.cancels,
        "timed_out": state.timed_out,
        "position": state.position,
        "override": state.override,
        "reuse": state.reuse,
        "signals": state.signals,
        "awaiting": {name: [[list(key), step] for key, step in waits] for name, waits in state.awaiting.items()},
    }
    return {name: value for name, value in data.items() if value or name in ("format", "seq", "status", "root")}


def decode(data: dict[str, Any]) -> State:
    """The state that `encode` gave this data for, with the root as its only frame."""
    return State(
        seq=data["seq"],
        status=data["status"],
        frames={ROOT: decode_frame(data["root"])},
        phase=data.get("phase", ""),
        closing=data.get("closing"),
        undo=list(data.get("undo", ())),
        undo_outcome=data.get("undo_outcome", ""),
        cancels=data.get("cancels", 0),
        timed_out=data.get("timed_out", False),
        position=data.get("position", 0),
        override=data.get("override"),
        reuse=data.get("reuse"),
        signals={name: list(seqs) for name, seqs in data.get("signals", {}).items()},
        awaiting={
            name: [(tuple(key), step) for key, step in waits] for name, waits in data.get("awaiting", {}).items()
        },
    )
