"""What planning costs: one event at step 100 and at step 10,000, and loops of growing length.

Run with `make bench-planning`. Everything is measured in this process, side by side in the same run, as medians of
several; no database takes part: what is measured is the planner with the encoding of the state that a transaction
would store.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from catalog.domain.playbook import Action, Loop, Playbook, Step, Target, Transition
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.facts import Facts
from executions.domain.jobs import EnqueueJob
from executions.domain.planner import plan
from executions.domain.results import StepResult
from executions.domain.start import start_event
from executions.domain.state import State, decode, encode

CHAIN = 10_000
ROUNDS = 3
LENGTHS = (1_000, 10_000)


def _to(step: str) -> tuple[Transition, ...]:
    return (Transition(kind="always", then=(Target(step=step),)),)


def _action() -> Action:
    return Action(kind="python", arguments={"code": "def main(): ..."}, verbatim=("code",))


def chain(length: int) -> Playbook:
    """`start` and a line of steps, each reading the result of the one before."""
    steps = [Step(name="start", next=_to("s0"))]
    for number in range(length):
        before = f"s{number - 1}"
        steps.append(
            Step(
                name=f"s{number}",
                action=_action(),
                inputs={"n": f"{{{{ {before}.n }}}}"} if number else {},
                next=_to(f"s{number + 1}") if number + 1 < length else (),
                start_reads=(before,) if number else (),
            )
        )
    return Playbook(name="chain", path="bench/chain", steps=tuple(steps))


def looping(items: int, *, over_steps: bool, concurrency: int | None) -> Playbook:
    """A loop over an action, or over two steps."""
    loop = Loop(items=list(range(items)), element="item", concurrency=concurrency, end="close" if over_steps else None)
    inputs = {"n": "{{ item }}"}
    if not over_steps:
        each = Step(name="each", action=_action(), loop=loop, inputs=inputs, start_reads=("item",))
        return Playbook(name="loop", path="bench/loop", steps=(Step(name="start", next=_to("each")), each))
    return Playbook(
        name="loop",
        path="bench/loop",
        steps=(
            Step(name="start", next=_to("each")),
            Step(name="each", loop=loop, next=_to("one")),
            Step(name="one", action=_action(), inputs=inputs, next=_to("two"), start_reads=("item",)),
            Step(name="two", action=_action(), next=_to("close")),
            Step(name="close", end_loop="each"),
        ),
    )


def _outcome(seq: int, job: EnqueueJob) -> Event:
    return Event(
        seq,
        ev.ACTION_COMPLETED,
        job.node_id,
        job.step,
        ev.NODE_STEP,
        status="success",
        result={"n": 1},
        loop_name=None if job.index is None else job.step,
        index=job.index,
    )


def _facts() -> Facts:
    return Facts("1", "2026-01-01T00:00:00+00:00", {})


def time_chain(length: int) -> list[float]:
    """Seconds per event of a chain: state read, event planned, state written."""
    playbook = chain(length)
    decision = plan(playbook, State(), start_event("1", playbook, "0.1.0", {}), _facts())
    seconds = []
    while decision.jobs:
        stored, job = json.dumps(encode(decision.state)), decision.jobs[0]
        facts = _facts()
        facts.results[job.node_id] = StepResult("success", {"n": 1})
        begun = time.perf_counter()
        state = decode(json.loads(stored))
        decision = plan(playbook, state, _outcome(state.seq + 1, job), facts)
        json.dumps(encode(decision.state))
        seconds.append(time.perf_counter() - begun)
    return seconds


def time_loop(items: int, *, over_steps: bool, concurrency: int | None) -> float:
    """Seconds per job of a loop, planned from its start to its end in memory."""
    playbook = looping(items, over_steps=over_steps, concurrency=concurrency)
    facts = _facts()
    facts.trees = {prefix: {} for prefix in ("1:each:", "1:one:", "1:two:")}
    begun = time.perf_counter()
    decision = plan(playbook, State(), start_event("1", playbook, "0.1.0", {}), facts)
    waiting, count = list(decision.jobs), 0
    while waiting:
        job = waiting.pop()
        facts.results[job.node_id] = StepResult("success", {"n": 1})
        decision = plan(playbook, decision.state, _outcome(decision.state.seq + 1, job), facts)
        waiting += decision.jobs
        count += 1
    return (time.perf_counter() - begun) / count


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what, microseconds at the small and at the large size, their ratio."""

    what: str
    small: float
    large: float

    @property
    def ratio(self) -> float:
        """The large against the small."""
        return self.large / self.small


def measure() -> Iterator[Row]:
    """All rows, each from medians over several rounds."""
    rounds = [time_chain(CHAIN) for _ in range(ROUNDS)]
    at_100 = statistics.median(second for seconds in rounds for second in seconds[80:120])
    at_end = statistics.median(second for seconds in rounds for second in seconds[-140:-100])
    yield Row(f"one event at step 100 and at step {CHAIN:,}", at_100 * 1e6, at_end * 1e6)
    for over_steps in (False, True):
        for concurrency in (None, 8):
            small, large = (
                statistics.median(
                    time_loop(items, over_steps=over_steps, concurrency=concurrency) for _ in range(ROUNDS)
                )
                for items in LENGTHS
            )
            body = "two steps" if over_steps else "an action"
            bound = f", {concurrency} at a time" if concurrency else ""
            yield Row(f"a job of a loop over {body}{bound}: 1,000 and 10,000 items", small * 1e6, large * 1e6)


def main() -> None:
    """Print the table, or JSON with `--json`."""
    rows = list(measure())
    if "--json" in sys.argv:
        print(json.dumps([{"what": row.what, "small_us": row.small, "large_us": row.large} for row in rows]))
        return
    print(f"{'microseconds of planning':<72} {'small':>8} {'large':>8} {'ratio':>6}")
    for row in rows:
        print(f"{row.what:<72} {row.small:>8.1f} {row.large:>8.1f} {row.ratio:>6.2f}")


if __name__ == "__main__":
    main()
