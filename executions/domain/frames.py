"""A frame: where the steps of one region stand, the workflow's own or one item's of a loop over several steps.

Steps are named by their place in the playbook. A frame holds no results and no rendered values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Scope = dict[str, tuple[int, int]]
"""Transition inputs a step sees: name -> (seq of the transition event, place of the step it was handed to).

The place is inverted (`~`) when the step itself was handed it at an earlier visit, and it only came along since.
"""


@dataclass(slots=True)
class LoopState:
    """Counters of one running loop; `done` and `failed` are bitmaps by item index.

    Of a loop whose items are saved, bitmaps by chunk: `full` are those whose items are all over and that nothing was
    done about yet, `asked` those that were asked to be saved or passed over, `saved` those of them that are over,
    `unsaved` those that failed. `handed` counts the items that were handed over.
    """

    total: int
    started: int = 0
    finished: int = 0
    done: int = 0
    failed: int = 0
    full: int = 0
    asked: int = 0
    saved: int = 0
    unsaved: int = 0
    handed: int = 0

    def runs(self, item: int) -> bool:
        """Whether the item has started and is not over."""
        return 0 <= item < self.started and not self.done >> item & 1

    def note_chunk(self, item: int, size: int) -> None:
        """After the end of an item: its chunk of so many may be full now."""
        first = item - item % size
        mask = (1 << min(size, self.total - first)) - 1
        if self.done >> first & mask == mask:
            self.full |= 1 << item // size

    def saves(self, chunk: int) -> bool:
        """Whether the save of a chunk was asked for and is not over."""
        return bool(self.asked >> chunk & ~(self.saved >> chunk) & 1)


@dataclass(slots=True)
class Live:
    """A step that has started and not ended.

    `outcome` is set when its one piece of work has reported; `fired` when its timer has; `signal` is the seq of the
    signal that a wait has got, 0 for none. `save` tells of what is saved after the work, and `save_seq` is the seq of
    the event that it began with, which keeps the step's rendered `result` meanwhile.
    """

    scope: Scope
    outcome: Literal["", "success", "error"] = ""
    fired: Literal["", "wait", "timeout"] = ""
    signal: int = 0
    loop: LoopState | None = None
    save: Literal["", "running", "success", "error", "skipped"] = ""
    save_seq: int = 0


@dataclass(slots=True)
class Arrival:
    """A branch that has reached a step and waits there; `source` is -1 for a beginning."""

    source: int
    scope: Scope


@dataclass(slots=True)
class Frame:
    """Where the steps of one region stand.

    `base` is added to the visits of the steps for node ids. `visited`, `succeeded`, `failed` and `skipped` (the newest
    visit's) and `due` (live steps with news) are bitmaps; `revisits` counts the visits of steps visited more than
    once; `ended` are steps that are over and whose transitions are still to be evaluated; `absorbing` tells, for a
    `join: any` that has fired, which active steps belong to the wave it has taken.
    """

    base: int = 0
    visited: int = 0
    revisits: dict[int, int] = field(default_factory=dict)
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    due: int = 0
    live: dict[int, Live] = field(default_factory=dict)
    waiting: dict[int, list[Arrival]] = field(default_factory=dict)
    ended: dict[int, Scope] = field(default_factory=dict)
    absorbing: dict[int, int] = field(default_factory=dict)

    def visit(self, step: int) -> int:
        """How often the step has been started or skipped here."""
        return self.revisits.get(step) or self.visited >> step & 1

    def number(self, step: int) -> int:
        """The visit as node ids have it."""
        return self.base + self.visit(step)

    def has_result(self, step: int) -> bool:
        """Whether the newest visit of the step is over, whatever came of it."""
        return bool((self.succeeded | self.failed | self.skipped) >> step & 1)

    def step_status(self, step: int) -> Literal["success", "error", "skipped"] | None:
        """The status of the newest ended visit, or None."""
        if self.failed >> step & 1:
            return "error"
        if self.skipped >> step & 1:
            return "skipped"
        return "success" if self.succeeded >> step & 1 else None

    def active(self) -> int:
        """A bitmap of the steps that something is going on at."""
        return bitmap(self.live) | bitmap(self.waiting) | bitmap(self.ended)

    def is_quiet(self, beside: int = 0) -> bool:
        """Whether nothing runs, waits or is to be left; of a bitmap of steps beside it, some may run."""
        return not (self.waiting or self.ended or bitmap(self.live) & ~beside)

    def clear(self, kept: int = 0) -> None:
        """Forget all that was going on, but the running steps of a bitmap."""
        self.due &= kept
        self.live = {step: live for step, live in self.live.items() if kept >> step & 1}
        self.waiting.clear()
        self.ended.clear()
        self.absorbing.clear()


def bitmap(steps: Iterable[int]) -> int:
    """The bitmap of these places."""
    bits = 0
    for step in steps:
        bits |= 1 << step
    return bits


def places(bits: int) -> Iterator[int]:
    """The places of a bitmap's bits, in file order; one big number's work per bit that is set."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def merge_scopes(arrivals: Iterable[Arrival], step: int) -> Scope:
    """The inputs of the branches that meet at a step: those handed to it win over those that only came along.

    Among either, of equal names the branch later in file order wins.
    """
    in_order = sorted(arrivals, key=lambda arrival: arrival.source)
    merged: Scope = {}
    for direct in (False, True):
        for arrival in in_order:
            merged.update((name, at) for name, at in arrival.scope.items() if (at[1] == step) is direct)
    return merged


def encode_frame(frame: Frame) -> dict[str, Any]:
    """The frame as JSON-like data without what is empty; bitmaps as text. The inverse: `decode_frame`."""
    data: dict[str, Any] = {
        "base": frame.base,
        **{name: encode_bits(getattr(frame, name)) for name in _BITMAPS},
        "unsucceeded": encode_bits(frame.visited & ~frame.succeeded),
        "revisits": [[step, visit] for step, visit in frame.revisits.items()],
        "live": [[step, _encode_live(live)] for step, live in frame.live.items()],
        "waiting": [
            [step, [[a.source, _encode_scope(a.scope)] for a in arrivals]] for step, arrivals in frame.waiting.items()
        ],
        "ended": [[step, _encode_scope(scope)] for step, scope in frame.ended.items()],
        "absorbing": [[step, encode_bits(steps)] for step, steps in frame.absorbing.items()],
    }
    return {name: value for name, value in data.items() if value not in (0, "0", [])}


_BITMAPS = ("visited", "failed", "skipped", "due")
"""Written as they are; `succeeded` by what it lacks of `visited`, which is little in a long execution."""


def decode_frame(data: Mapping[str, Any]) -> Frame:
    """The frame that `encode_frame` gave this data for."""
    bitmaps = {name: decode_bits(data.get(name, "0")) for name in _BITMAPS}
    return Frame(
        base=data.get("base", 0),
        succeeded=bitmaps["visited"] & ~decode_bits(data.get("unsucceeded", "0")),
        revisits=dict(data.get("revisits", ())),
        live={step: _decode_live(live) for step, live in data.get("live", ())},
        waiting={
            step: [Arrival(source, _decode_scope(scope)) for source, scope in arrivals]
            for step, arrivals in data.get("waiting", ())
        },
        ended={step: _decode_scope(scope) for step, scope in data.get("ended", ())},
        absorbing={step: decode_bits(steps) for step, steps in data.get("absorbing", ())},
        **bitmaps,
    )


def encode_bits(bits: int) -> str:
    """A bitmap as text: hexadecimal, or `gap.ones.gap.ones` of its runs when it is long and they are few."""
    if bits.bit_length() <= SHORT_BITS:
        return format(bits, "x")
    runs: list[int] = []
    rest = bits
    while rest and len(runs) < MAX_RUNS:
        gap = (rest & -rest).bit_length() - 1
        rest >>= gap
        ones = (~rest & (rest + 1)).bit_length() - 1
        rest >>= ones
        runs += (gap, ones)
    return format(bits, "x") if rest else ".".join(map(str, runs))


def decode_bits(text: str) -> int:
    """The bitmap that `encode_bits` gave this text for."""
    if "." not in text:
        return int(text, 16)
    bits, at = 0, 0
    numbers = [int(number) for number in text.split(".")]
    for gap, ones in zip(numbers[::2], numbers[1::2], strict=True):
        bits |= ((1 << ones) - 1) << (at + gap)
        at += gap + ones
    return bits


SHORT_BITS = 64
MAX_RUNS = 16


def _encode_scope(scope: Scope) -> dict[str, list[int]]:
    return {name: [seq, target] for name, (seq, target) in scope.items()}


def _decode_scope(data: dict[str, list[int]]) -> Scope:
    return {name: (seq, target) for name, (seq, target) in data.items()}


def _encode_live(live: Live) -> dict[str, Any]:
    data: dict[str, Any] = {"scope": _encode_scope(live.scope), "outcome": live.outcome, "fired": live.fired}
    data |= {"signal": live.signal, "save": live.save, "save_seq": live.save_seq}
    data = {name: value for name, value in data.items() if value}
    if (loop := live.loop) is not None:
        data["loop"] = [loop.total, loop.started, loop.finished, encode_bits(loop.done), encode_bits(loop.failed)]
        if loop.full or loop.asked:
            bitmaps = (loop.full, loop.asked, loop.saved, loop.unsaved)
            data["chunks"] = [*map(encode_bits, bitmaps), loop.handed]
    return data


def _decode_live(data: dict[str, Any]) -> Live:
    loop = None
    if (fields := data.get("loop")) is not None:
        total, started, finished, done, failed = fields
        loop = LoopState(total, started, finished, decode_bits(done), decode_bits(failed))
        if (chunks := data.get("chunks")) is not None:
            *bitmaps, loop.handed = chunks
            loop.full, loop.asked, loop.saved, loop.unsaved = map(decode_bits, bitmaps)
    return Live(
        _decode_scope(data.get("scope", {})),
        data.get("outcome", ""),
        data.get("fired", ""),
        data.get("signal", 0),
        loop,
        data.get("save", ""),
        data.get("save_seq", 0),
    )
