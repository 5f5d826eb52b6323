"""The fold: how each event advances the state. It neither renders nor plans; an event that cannot happen raises."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from catalog.domain.playbook import Playbook
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.frames import Arrival, Frame, Live, LoopState, Scope, bitmap, merge_scopes
from executions.domain.state import ROOT, TERMINAL_STATUS, State, frame_key
from executions.domain.wanted import FrameKey
from executions.errors import ImpossibleEvent


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event happened: the frame, the step in it, and the item when it is about one of the step's loop.

    `save`: it is about what is saved of the step, or of a `chunk` of the items of its loop.
    """

    key: FrameKey
    step: int
    item: int | None
    visit: int
    save: bool = False
    chunk: int | None = None


def place_of(playbook: Playbook, event: Event) -> Place:
    """Where an event of a step happened. Raises: `ImpossibleEvent`."""
    try:
        node = ev.parse_node_id(event.node_id)
        step = playbook.index_by_name[node.step]
    except (ValueError, KeyError):
        raise ImpossibleEvent(event.type, event.node_id, "the playbook has no such node") from None
    depth = len(playbook.enclosing[step])
    if not depth <= len(node.path) <= depth + 1:
        raise ImpossibleEvent(event.type, event.node_id, "the node has another number of items around it")
    item = node.path[depth] if len(node.path) > depth else None
    return Place(frame_key(playbook, step, node.path[:depth]), step, item, node.visit, node.save, node.chunk)


def apply(state: State, event: Event, playbook: Playbook) -> None:
    """Advance `state` by one event, in place.

    Raises: `ImpossibleEvent`, `MissingFacts` (a frame that was not loaded); with the state left as it was.
    """
    if event.seq != state.seq + 1:
        raise ImpossibleEvent(event.type, event.node_id, f"its seq is {event.seq} after {state.seq}")
    if event.type not in ev.ANNOTATIONS:
        if state.is_terminal:
            raise ImpossibleEvent(event.type, event.node_id, f"the execution is {state.status}")
        if event.type in _OF_EXECUTION:
            _OF_EXECUTION[event.type](state, event, playbook)
        elif event.type in _OF_STEPS:
            _OF_STEPS[event.type](state, event, playbook, place_of(playbook, event))
        else:
            raise ImpossibleEvent(event.type, event.node_id, "no such event type")
    state.seq = event.seq


def replay(log: Iterable[Event], playbook: Playbook, state: State | None = None) -> State:
    """Fold events, in order of `seq`, onto `state` (or a new one) and return it."""
    state = State() if state is None else state
    for event in log:
        apply(state, event, playbook)
    return state


# -- the execution -----------------------------------------------------------------------------------


def _start_execution(state: State, event: Event, playbook: Playbook) -> None:
    if state.status != "pending":
        raise ImpossibleEvent(event.type, event.node_id, "it has started already")
    state.status = "running"
    state.reuse = (event.context or {}).get("reuse")
    state.override = (event.context or {}).get("override")
    taken = (event.context or {}).get("taken") or [{"step": "start", "inputs": {}}]
    _arrive(state, ROOT, event, playbook, -1, {}, taken)


def _end_execution(state: State, event: Event, playbook: Playbook) -> None:
    _unwind(state)
    state.status = TERMINAL_STATUS[event.type]
    state.phase, state.closing, state.undo, state.undo_outcome = "", None, [], ""
    state.signals.clear()


def _unwind(state: State, kept: int = 0) -> None:
    """Forget all that was going on, but the workflow's steps of a bitmap: it is called off."""
    state.root.clear(kept)
    state.frames = {ROOT: state.root}
    state.dirty.clear()
    state.agenda.clear()
    state.dropped.add(ROOT)
    state.awaiting.clear()
    state.touch(ROOT)


def _start_undoing(state: State, event: Event, playbook: Playbook) -> None:
    _unwind(state)
    state.phase = "undoing"
    state.closing = {"status": event.context["status"], "error": event.context["error"]}
    state.undo = list(event.context["nodes"])


def _start_finally(state: State, event: Event, playbook: Playbook) -> None:
    _unwind(state, _kept(event, playbook))
    state.status = "running"
    state.phase = "finally"
    state.closing = {name: event.context[name] for name in ("status", "error", "by")}
    _arrive(state, ROOT, event, playbook, -1, {}, event.context["taken"])


def _start_notifying(state: State, event: Event, playbook: Playbook) -> None:
    _unwind(state, _kept(event, playbook))
    state.status = "running"
    state.phase = "notifying"
    state.closing = {**{name: event.context[name] for name in ("status", "error", "by")}, "cancels": state.cancels}
    _arrive(state, ROOT, event, playbook, -1, {}, event.context["taken"])


def _kept(event: Event, playbook: Playbook) -> int:
    """What goes on into a phase before the end, as a bitmap: after a success what still tells of lateness."""
    return playbook.notices if event.context["status"] == "completed" else 0


def _pause(state: State, event: Event, playbook: Playbook) -> None:
    if state.status != "running":
        raise ImpossibleEvent(event.type, event.node_id, f"the execution is {state.status}")
    state.status = "paused"


def _resume(state: State, event: Event, playbook: Playbook) -> None:
    if state.status != "paused":
        raise ImpossibleEvent(event.type, event.node_id, "the execution is not paused")
    state.status = "running"
    for key in state.frames:
        state.agenda.add(key)


def _request_cancel(state: State, event: Event, playbook: Playbook) -> None:
    state.cancels += 1


def _receive_signal(state: State, event: Event, playbook: Playbook) -> None:
    """A signal goes to the first wait for it; when there is none, it is kept for the first to come."""
    if event.node_id != event.node_id.partition(":")[0]:
        place = place_of(playbook, event)
        if (live := _live_at(state, place)) is not None:
            _give_signal(state, place.key, place.step, live, event.seq)
        return
    name = event.context["name"]
    waits = state.awaiting.get(name)
    if not waits:
        state.signals.setdefault(name, []).append(event.seq)
        return
    key, step = waits[0]
    live = state.frame(key).live[step]
    state.stop_waiting(key, step)
    _give_signal(state, key, step, live, event.seq)


def _give_signal(state: State, key: FrameKey, step: int, live: Live, seq: int) -> None:
    live.signal = live.signal or seq
    state.frames[key].due |= 1 << step
    state.touch(key)


def _fire_timer(state: State, event: Event, playbook: Playbook) -> None:
    """A timer that comes after what it was set for says nothing any more."""
    if event.node_id == event.node_id.partition(":")[0]:
        state.timed_out = True
        state.agenda.add(ROOT)
        return
    place = place_of(playbook, event)
    if playbook.steps[place.step].notice is not None:
        # Once the workflow is over, its end is told, and not that it is late.
        if not state.phase:
            state.root.waiting[place.step] = [Arrival(-1, {})]
            state.touch(ROOT)
        return
    live = _live_at(state, place)
    if live is not None and not live.fired:
        live.fired = event.context["kind"]
        state.frames[place.key].due |= 1 << place.step
        state.touch(place.key)


def _live_at(state: State, place: Place) -> Live | None:
    """The running step at a place, if it runs in this visit. Raises: `MissingFacts`."""
    if not state.has_frame(place.key):
        return None
    frame = state.frame(place.key)
    return frame.live.get(place.step) if frame.number(place.step) == place.visit else None


# -- steps -------------------------------------------------------------------------------------------


def _open_visit(state: State, event: Event, playbook: Playbook, place: Place) -> Scope:
    """Count a new visit of a step that is not running and return the inputs its arrivals brought."""
    frame, step = _existing(state, event, place), place.step
    if step in frame.live or step in frame.ended:
        raise ImpossibleEvent(event.type, event.node_id, "the step is running")
    visit = frame.visit(step) + 1
    if place.visit != frame.base + visit:
        raise ImpossibleEvent(event.type, event.node_id, f"its visit should be {frame.base + visit}")
    scope = merge_scopes(frame.waiting.pop(step, []), step)
    bit = 1 << step
    frame.visited |= bit
    if visit > 1:
        frame.revisits[step] = visit
    frame.succeeded &= ~bit
    frame.failed &= ~bit
    frame.skipped &= ~bit
    if playbook.steps[step].join == "any" and (rest := frame.active() & playbook.ancestors[step] & ~bit):
        frame.absorbing[step] = rest
    state.touch(place.key)
    return scope


def _existing(state: State, event: Event, place: Place) -> Frame:
    if not state.has_frame(place.key):
        raise ImpossibleEvent(event.type, event.node_id, "its item is not running")
    return state.frame(place.key)


def _running(state: State, event: Event, place: Place) -> Live:
    """The running step an event is about. Raises: `ImpossibleEvent`."""
    live = _live_at(state, place)
    if live is None:
        raise ImpossibleEvent(event.type, event.node_id, "the step is not running")
    return live


def _running_loop(state: State, event: Event, place: Place) -> LoopState:
    loop = _running(state, event, place).loop
    if loop is None:
        raise ImpossibleEvent(event.type, event.node_id, "the loop is not running")
    return loop


def _start_step(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    scope = _open_visit(state, event, playbook, place)
    state.frames[place.key].live[place.step] = Live(scope)


def _skip_step(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    scope = _open_visit(state, event, playbook, place)
    frame = state.frames[place.key]
    frame.ended[place.step] = scope
    frame.skipped |= 1 << place.step


def _end_step(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    live = _running(state, event, place)
    frame = state.frames[place.key]
    del frame.live[place.step]
    frame.due &= ~(1 << place.step)
    frame.ended[place.step] = live.scope
    if event.type == ev.STEP_COMPLETED:
        frame.succeeded |= 1 << place.step
    else:
        frame.failed |= 1 << place.step
        state.stop_waiting(place.key, place.step)
        if live.loop is not None and live.loop.finished < live.loop.started:
            state.drop_items_of(place.key, place.step, live.loop)
    state.touch(place.key)


def _record_outcome(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    failed = event.type == ev.ACTION_ERROR or (event.type == ev.CHILD_COMPLETED and event.status != "success")
    if event.node_id.endswith(f"#{ev.UNDO}"):
        if state.phase != "undoing" or state.undo_outcome or ev.undo_node_id(state.undo[0]) != event.node_id:
            raise ImpossibleEvent(event.type, event.node_id, "the node is not being undone")
        state.undo_outcome = "error" if failed else "success"
        state.touch(ROOT)
        return
    live = _running(state, event, place)
    frame = state.frames[place.key]
    if place.save:
        _end_save(frame, event, place, live, failed=failed)
    elif place.item is not None:
        _finish_item(frame, event, place, live.loop, playbook, failed=failed)
    elif live.outcome or live.loop is not None:
        raise ImpossibleEvent(event.type, event.node_id, "the step has an outcome already")
    else:
        live.outcome = "error" if failed else "success"
        frame.due |= 1 << place.step
    state.touch(place.key)


def _finish_item(
    frame: Frame, event: Event, place: Place, loop: LoopState | None, playbook: Playbook, *, failed: bool
) -> None:
    if loop is None or place.item is None or not loop.runs(place.item):
        raise ImpossibleEvent(event.type, event.node_id, "the item is not running")
    loop.done |= 1 << place.item
    loop.finished += 1
    if failed:
        loop.failed |= 1 << place.item
    written = playbook.steps[place.step].loop
    if written is not None and written.save is not None:
        loop.note_chunk(place.item, written.save.chunk_size)
    frame.due |= 1 << place.step


def _start_save(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    live = _save_to_begin(state, event, place)
    if place.chunk is None or live.loop is None:
        live.save, live.save_seq = "running", event.seq
    else:
        live.loop.asked |= 1 << place.chunk
        live.loop.full &= ~(1 << place.chunk)
        live.loop.handed += event.context["items"]
    state.touch(place.key)


def _skip_save(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    live = _save_to_begin(state, event, place)
    if place.chunk is None or live.loop is None:
        live.save = "skipped"
    else:
        live.loop.asked |= 1 << place.chunk
        live.loop.saved |= 1 << place.chunk
        live.loop.full &= ~(1 << place.chunk)
    state.touch(place.key)


def _save_to_begin(state: State, event: Event, place: Place) -> Live:
    """The running step whose save an event is about. Raises: `ImpossibleEvent` when that has begun already."""
    live = _running(state, event, place)
    if place.chunk is None:
        begun = bool(live.save) or not place.save
    else:
        begun = live.loop is None or bool(live.loop.asked >> place.chunk & 1)
    if begun:
        raise ImpossibleEvent(event.type, event.node_id, "its save has begun")
    return live


def _end_save(frame: Frame, event: Event, place: Place, live: Live, *, failed: bool) -> None:
    if place.chunk is None and live.save == "running":
        live.save = "error" if failed else "success"
    elif place.chunk is not None and live.loop is not None and live.loop.saves(place.chunk):
        live.loop.saved |= 1 << place.chunk
        if failed:
            live.loop.unsaved |= 1 << place.chunk
    else:
        raise ImpossibleEvent(event.type, event.node_id, "nothing is being saved there")
    frame.due |= 1 << place.step


def _start_wait(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    live = _running(state, event, place)
    name = (event.context or {}).get("signal")
    if name is not None:
        if kept := state.signals.get(name):
            _give_signal(state, place.key, place.step, live, kept.pop(0))
            if not kept:
                del state.signals[name]
        else:
            state.awaiting.setdefault(name, []).append((place.key, place.step))
    state.touch(place.key)


def _end_wait(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    live = _running(state, event, place)
    live.outcome = "success" if event.status == "success" else "error"
    state.frames[place.key].due |= 1 << place.step
    state.touch(place.key)


# -- loops -------------------------------------------------------------------------------------------


def _start_loop(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    live = _running(state, event, place)
    if live.loop is not None:
        raise ImpossibleEvent(event.type, event.node_id, "the loop has started")
    live.loop = LoopState(total=event.context["count"])
    state.frames[place.key].due |= 1 << place.step
    state.touch(place.key)


def _start_item(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    loop = _running_loop(state, event, place)
    if place.item != loop.started:
        raise ImpossibleEvent(event.type, event.node_id, "the item is out of order")
    loop.started += 1
    if playbook.bodies.get(place.step) is not None:
        # Each visit of the loop has a range of visits for its body: no two nodes share an id.
        frame = Frame(base=(place.visit - 1) * playbook.max_visits)
        frame.ended[place.step] = dict(state.frames[place.key].live[place.step].scope)
        key = (*place.key, place.step, place.item)
        state.frames[key] = frame
        state.touch(key)
    state.touch(place.key)


def _end_item(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    loop = _running_loop(state, event, place)
    _finish_item(state.frames[place.key], event, place, loop, playbook, failed=event.status != "success")
    state.drop_item((*place.key, place.step, place.item or 0))
    state.touch(place.key)


def _end_loop(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    loop = _running_loop(state, event, place)
    if loop.finished != loop.started:
        raise ImpossibleEvent(event.type, event.node_id, "the loop still has running items")


# -- transitions -------------------------------------------------------------------------------------


def _take_transitions(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    key, source = place.key, place.step
    if place.item is not None:
        key = (*key, source, place.item)
    if not state.has_frame(key):
        raise ImpossibleEvent(event.type, event.node_id, "its item is not running")
    scope = state.frame(key).ended.pop(source, None)
    if scope is None:
        raise ImpossibleEvent(event.type, event.node_id, "the step has not ended")
    if event.context.get("override"):
        state.position += 1
    if (cause := event.context.get("failed")) and state.closing and state.closing["status"] == "completed":
        state.closing = {"status": "failed", "error": cause}
    _arrive(state, key, event, playbook, source, scope, event.context["taken"])


def _arrive(
    state: State,
    key: FrameKey,
    event: Event,
    playbook: Playbook,
    source: int,
    scope: Scope,
    taken: Iterable[dict[str, Any]],
) -> None:
    """Let a branch reach the steps it leads to; the end of the loop around it only ends it."""
    frame = state.frames[key]
    end = playbook.steps[key[-2]].loop if key else None
    targets = {playbook.index_by_name[item["step"]]: item["inputs"] for item in taken}
    absorbed = _absorb(frame, playbook, source, bitmap(targets)) if frame.absorbing else 0
    for target, inputs in targets.items():
        if absorbed >> target & 1 or (end is not None and playbook.steps[target].name == end.end):
            continue
        own: Scope = dict.fromkeys(inputs, (event.seq, target))
        # What the target was handed at an earlier visit only comes along now.
        along = {name: (seq, ~to if to == target else to) for name, (seq, to) in scope.items()}
        frame.waiting.setdefault(target, []).append(Arrival(source, {**along, **own}))
    state.touch(key)


def _absorb(frame: Frame, playbook: Playbook, source: int, targets: int) -> int:
    """Follow the waves that a `join: any` has taken. Returns: the joins, as a bitmap, that swallow this arrival."""
    absorbed = 0
    for join, wave in list(frame.absorbing.items()):
        if source < 0 or not wave >> source & 1:
            continue
        absorbed |= targets & 1 << join
        left = wave & ~(1 << source) | targets & playbook.ancestors[join] & ~(1 << join)
        if left:
            frame.absorbing[join] = left
        else:
            del frame.absorbing[join]
    return absorbed


_OF_EXECUTION: dict[str, Callable[[State, Event, Playbook], None]] = {
    ev.EXECUTION_START: _start_execution,
    ev.EXECUTION_COMPLETED: _end_execution,
    ev.EXECUTION_FAILED: _end_execution,
    ev.EXECUTION_CANCELLED: _end_execution,
    ev.EXECUTION_PAUSED: _pause,
    ev.EXECUTION_RESUMED: _resume,
    ev.CANCEL_REQUESTED: _request_cancel,
    ev.UNDO_STARTED: _start_undoing,
    ev.FINALLY_STARTED: _start_finally,
    ev.NOTIFYING_STARTED: _start_notifying,
    ev.SIGNAL_RECEIVED: _receive_signal,
    ev.TIMER_FIRED: _fire_timer,
}


def _end_undoing(state: State, event: Event, playbook: Playbook, place: Place) -> None:
    if not state.undo or state.undo[0] != event.node_id:
        raise ImpossibleEvent(event.type, event.node_id, "the node is not being undone")
    state.undo.pop(0)
    state.undo_outcome = ""
    state.touch(ROOT)


_OF_STEPS: dict[str, Callable[[State, Event, Playbook, Place], None]] = {
    ev.STEP_STARTED: _start_step,
    ev.STEP_SKIP: _skip_step,
    ev.STEP_COMPLETED: _end_step,
    ev.STEP_FAILED: _end_step,
    ev.STEP_UNDONE: _end_undoing,
    ev.ACTION_COMPLETED: _record_outcome,
    ev.ACTION_ERROR: _record_outcome,
    ev.CHILD_COMPLETED: _record_outcome,
    ev.SAVE_STARTED: _start_save,
    ev.SAVE_SKIP: _skip_save,
    ev.WAIT_STARTED: _start_wait,
    ev.WAIT_COMPLETED: _end_wait,
    ev.LOOP_START: _start_loop,
    ev.LOOP_ITERATION: _start_item,
    ev.LOOP_ITERATION_COMPLETED: _end_item,
    ev.LOOP_COMPLETED: _end_loop,
    ev.TRANSITION_EVALUATED: _take_transitions,
}
