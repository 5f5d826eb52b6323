"""Playbooks made by chance, valid by construction, and the answers of their actions.

A case comes from a `random.Random`: a plain seed gives thousands a second, and Hypothesis hands in one of its own
whose choices it can shrink. The simplest thing is always the first choice.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeVar
from zlib import crc32

from hypothesis import strategies as st

from catalog.domain.playbook import Action, Loop, Playbook, Retry, Save, Step, Target, Transition
from catalog.domain.template_syntax import names_read

T = TypeVar("T")

Fate = Literal["well", "broken", "moody"] | int
"""How a step's action fares: `moody` fails at some nodes; a number fails that many tries, then goes well."""

WORKLOAD: dict[str, Any] = {"items": [3, 1, 4, 1, 5], "rows": [[1, 2], [], [3]], "limit": 2, "flag": True, "off": "no"}
ACTION = Action(kind="python", arguments={"code": "..."}, verbatim=("code",))


@dataclass(frozen=True)
class Features:
    """What generated playbooks may hold. `OLD` is what the language had before frames."""

    join_any: bool = False
    join_all: bool = False
    failures: bool = True
    loops_over_steps: bool = True
    loop_options: bool = True
    retries: bool = True
    on_error: bool = True
    undo: bool = True
    finally_steps: bool = True
    cycles: bool = True
    handed_in_cycles: bool = True
    all_in_finally: bool = True
    skips: bool = True
    skipped_loops: bool = False
    saves: bool = True


ALL = Features(join_any=True, join_all=True, skipped_loops=True)
OLD = Features(
    loops_over_steps=False,
    loop_options=False,
    retries=False,
    on_error=False,
    undo=False,
    finally_steps=False,
    saves=False,
)


@dataclass(frozen=True)
class Case:
    """A playbook with what its actions answer: a function of the node, the try and the inputs."""

    playbook: Playbook
    fates: dict[str, Fate] = field(default_factory=dict)
    salt: int = 0

    def answer(self, node: str, attempt: int, inputs: dict[str, Any]) -> Any:
        name = node.partition("#")[0].partition(":")[0]
        fate = self.fates.get(f"{name}#save" if "#save" in node else name, "well")
        if isinstance(fate, int):
            broken = attempt <= fate
        else:
            broken = fate == "broken" or (fate == "moody" and crc32(f"{self.salt}{node}".encode()) % 3 == 0)
        if broken:
            raise RuntimeError("boom")
        return {"n": crc32(json.dumps([self.salt, node, inputs], sort_keys=True).encode()) % 97}

    @cached_property
    def has_any(self) -> bool:
        return any(step.join == "any" for step in self.playbook.steps)

    def __repr__(self) -> str:
        return f"Case({self.playbook!r}, {self.fates}, {self.salt})"


def cases(features: Features = ALL) -> st.SearchStrategy[Case]:
    """Cases for Hypothesis."""
    return st.randoms(use_true_random=False, note_method_calls=False).map(lambda chance: case_from(chance, features))


def case_from(chance: random.Random, features: Features = ALL) -> Case:
    """One case, by the choices of `chance`."""
    return _Maker(chance, features).make()


def playbook_from(chance: random.Random, features: Features = ALL) -> Playbook:
    """One playbook, by the choices of `chance`."""
    return case_from(chance, features).playbook


@dataclass
class _Unit:
    """What a branch runs through: a step, or a whole loop over steps. It is entered at one step and left at another."""

    entry: str
    exit: str
    order: int


@dataclass
class _Draft:
    """A step that is being written: its fields, and where it shall lead."""

    name: str
    depth: int
    fields: dict[str, Any] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    elements: dict[str, str] = field(default_factory=dict)
    around: tuple[str, ...] = ()


class _Maker:
    """Makes one case."""

    def __init__(self, chance: random.Random, features: Features) -> None:
        self.chance = chance
        self.features = features
        self.drafts: list[_Draft] = []
        self.fates: dict[str, Fate] = {}
        self.trouble = self.pick([0, 8, 3]) if features.failures else 0
        self.left = 1 + chance.randrange(self.pick([9, 9, 16]))
        self.cyclic = features.cycles and self.seldom(2)
        self.handing = features.handed_in_cycles or not self.cyclic

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.chance.randrange(len(choices))]

    def seldom(self, often: int) -> bool:
        """True once in so many times."""
        return self.chance.randrange(often) == often - 1

    def make(self) -> Case:
        features = self.features
        start = self.draft("start", 0, {}, ())
        self.region(start, 1 + self.chance.randrange(6), "end", 0, {}, ())
        fields: dict[str, Any] = {}
        if features.on_error and features.failures and self.seldom(4):
            handlers = self.extra("h", "end")
            inputs = {"given": "handled"} if self.handing else {}
            fields["on_error"] = tuple(Target(step=name, inputs=inputs) for name in handlers)
        if features.finally_steps and self.seldom(4):
            fields["finally_steps"] = tuple(self.extra("f", None))
        steps = [self.step(draft) for draft in self.drafts]
        if self.seldom(4):
            self.chance.shuffle(steps)
        if not self.seldom(6):
            steps.append(self.end_step())
        else:
            steps = [without_target(step, "end") for step in steps]
        book = Playbook(
            name="book",
            path="tests/book",
            steps=tuple(steps),
            workload=WORKLOAD,
            max_visits=self.pick([5, 3, 2, 1]) if features.cycles else 1000,
            **fields,
        )
        return Case(book, self.fates, self.chance.randrange(1000))

    def extra(self, letter: str, last: str | None) -> list[str]:
        """A small region of its own; gives the steps that it is entered at."""
        gate = _Draft("gate", 0)
        self.left = max(self.left, 1) + 1
        self.region(gate, 1 + self.chance.randrange(3), last, 0, {}, (), letter)
        return gate.targets

    # -- the graph --------------------------------------------------------------------------------------

    def draft(self, name: str, depth: int, elements: dict[str, str], around: tuple[str, ...]) -> _Draft:
        made = _Draft(name, depth, elements=elements, around=around)
        self.drafts.append(made)
        return made

    def region(
        self,
        gate: _Draft,
        size: int,
        last: str | None,
        depth: int,
        elements: dict[str, str],
        around: tuple[str, ...],
        letter: str = "s",
    ) -> None:
        """Units behind `gate`, each reached from an earlier one, with more ways between them at will."""
        exits = [gate]
        entries: list[str] = []
        for _ in range(size):
            if self.left <= 0 and entries:
                break
            entry, exit_ = self.unit(depth, elements, around, letter)
            self.pick(exits if self.seldom(2) else exits[:1]).targets.append(entry)
            entries.append(entry)
            for other in exits:
                if self.seldom(3) and entry not in other.targets:
                    other.targets.append(entry)
            exits.append(exit_)
        for number, exit_ in enumerate(exits[1:]):
            if last is not None and not self.seldom(3 if exit_.targets else 5):
                exit_.targets.append(last)
            if self.cyclic and letter == "s" and self.seldom(5):
                exit_.back.append(self.pick(entries[: number + 1]))
            for entry in entries[number + 1 :]:
                if self.features.join_any and self.seldom(12) and entry not in exit_.targets:
                    exit_.targets.append(entry)
            if self.features.on_error and self.features.failures and self.seldom(4):
                ahead = entries[number + 1 :] + ([last] if last is not None else [])
                self.set_on_error(exit_, ahead)

    def set_on_error(self, draft: _Draft, ahead: list[str]) -> None:
        if not ahead or self.seldom(2):
            draft.fields["on_error"] = "continue"
        else:
            draft.fields["on_error"] = "route"
            inputs = {"given": "routed"} if self.handing else {}
            draft.fields["error_targets"] = (Target(step=self.pick(ahead), inputs=inputs),)

    def unit(self, depth: int, elements: dict[str, str], around: tuple[str, ...], letter: str) -> tuple[str, _Draft]:
        self.left -= 1
        name = f"{letter}{len(self.drafts)}"
        if not (self.features.loops_over_steps and depth < 2 and self.seldom(4)):
            plain = self.draft(name, depth, elements, around)
            self.furnish(plain)
            return name, plain
        opening = self.draft(name, depth, elements, around)
        element = f"e{depth}"
        closing = f"{name}_end"
        loop, kind = self.loop(element, elements, end=closing)
        opening.fields["loop"] = loop
        if self.features.skipped_loops and self.seldom(9):
            opening.fields["skip_if"] = True
        if self.features.on_error and self.seldom(6):
            opening.fields["on_error"] = "continue"
        if self.features.undo and self.seldom(9):
            self.set_undo(opening)
        self.region(
            opening,
            1 + self.chance.randrange(3),
            closing,
            depth + 1,
            {**elements, element: kind},
            (*around, name),
            letter,
        )
        ending = self.draft(closing, depth, elements, around)
        ending.fields["end_loop"] = name
        if not self.seldom(3):
            shown = {"n": f"{{{{ {name}.count | default(0) }}}}", "r": f"{{{{ {name}_results | default(none) }}}}"}
            ending.fields["result"] = {**shown, "b": f"{{{{ {name}.results | default(none) }}}}"}
        return name, ending

    # -- what a step does -------------------------------------------------------------------------------

    def furnish(self, draft: _Draft) -> None:
        """What a plain step does: an action, seldom an inline loop, a transform, or nothing."""
        kind = self.pick(["action", "action", "action", "action", "action", "action", "loop", "nothing", "transform"])
        if kind == "transform":
            draft.fields["result"] = {"n": 7, "seen": self.seen(draft)}
        elif kind != "nothing":
            draft.fields["action"] = ACTION
            if kind == "loop":
                element = f"e{draft.depth}"
                draft.fields["loop"], _ = self.loop(element, draft.elements)
            self.set_inputs(draft)
            self.set_fate(draft)
            if self.features.undo and self.seldom(4):
                self.set_undo(draft)
        if self.features.saves and self.seldom(6):
            self.set_saves(draft)
        if self.features.skips and self.seldom(8):
            key = self.pick(["skip_if", "run_if"])
            draft.fields[key] = self.pick([True, False, "{{ workload.flag }}", "{{ workload.off }}", "{{ nothing.x }}"])
        if self.seldom(5):
            draft.fields["next_mode"] = "exclusive"
        all_ = self.features.join_all and (self.features.all_in_finally or not draft.name.startswith("f"))
        joins = [name for name, on in (("any", self.features.join_any), ("all", all_)) if on]
        if joins and self.seldom(3):
            draft.fields["join"] = self.pick(joins)

    def set_saves(self, draft: _Draft) -> None:
        """What is saved of a step, and of the items of its loop."""
        loop = draft.fields.get("loop")
        if loop is not None and loop.end is None and not self.seldom(3):
            options = {"chunk_size": self.pick([2, 1, 3, 100]), "concurrency": self.pick([None, None, 1, 2])}
            shown = ["{{ data }}", f"{{{{ [{loop.element}, data.n, status] }}}}", "{{ this }}"]
            save = self.save(shown, [f"{{{{ {loop.element} }}}}", "{{ data.n is odd }}"]).model_copy(update=options)
            draft.fields["loop"] = loop.model_copy(update={"save": save})
        if loop is None or self.seldom(2):
            shown = ["{{ data }}", "{{ this.status }}", self.seen(draft), f"{{{{ {draft.name}.n | default(0) }}}}"]
            shown += ["{{ [results, count, errors | length] }}"] if loop is not None else ["{{ given | default(0) }}"]
            draft.fields["save"] = self.save(shown, ["{{ workload.flag }}", "{{ status == 'success' }}"])
        if self.trouble and self.seldom(3):
            fates: list[Fate] = ["moody", "broken", 1, 2] if self.features.retries else ["moody"]
            self.fates[f"{draft.name}#save"] = self.pick(fates)

    def save(self, shown: list[str], conditions: list[str]) -> Save:
        if self.trouble and self.seldom(12):
            shown = ["{{ nothing.at.all }}"]
        return Save(
            action=Action(kind="save", arguments={"storage": "event_log", "data": self.pick(shown)}),
            when=self.pick([*conditions, "{{ workload.off }}"]) if self.seldom(4) else None,
            on=self.pick(["success", "success", "always", "error"]),
            on_error="fail" if self.seldom(3) else "continue",
            retry=Retry(max_attempts=2, initial_delay=0) if self.features.retries and self.seldom(4) else None,
        )

    def set_inputs(self, draft: _Draft) -> None:
        inputs: dict[str, Any] = {}
        if self.seldom(2):
            inputs["seen"] = self.seen(draft)
        if self.seldom(2):
            inputs["got"] = "{{ given | default('none') }}"
        if self.seldom(9):
            inputs["given"] = "own"
        for element in draft.elements:
            if not self.seldom(3):
                inputs[element] = f"{{{{ {element} }}}}"
        if "loop" in draft.fields:
            inputs["item"] = f"{{{{ {draft.fields['loop'].element} }}}}"
            inputs["at"] = "{{ _loop.index }}"
        elif draft.elements and self.seldom(3):
            inputs["at"] = "{{ [_loop.index, _loop.count] }}"
        if self.trouble and self.seldom(25):
            inputs["bad"] = "{{ nothing.at.all }}"
        draft.fields["inputs"] = inputs

    def seen(self, draft: _Draft) -> str:
        """A template that reads some other step's result, if it can be seen."""
        names = [other.name for other in self.drafts if other.name not in (*draft.around, "start")]
        return f"{{{{ {self.pick(names)}.n | default('none') }}}}" if names else "nobody"

    def set_fate(self, draft: _Draft) -> None:
        if not self.trouble:
            return
        if self.seldom(self.trouble):
            self.fates[draft.name] = self.pick(["moody", "broken", 1, 2]) if self.features.retries else "moody"
        if self.features.retries and self.seldom(5):
            draft.fields["retry"] = Retry(max_attempts=self.pick([2, 3]), initial_delay=0)

    def set_undo(self, draft: _Draft) -> None:
        draft.fields["undo"] = ACTION
        if self.seldom(2):
            draft.fields["undo_inputs"] = {"was": f"{{{{ {draft.name}.n | default(0) }}}}"}

    def loop(self, element: str, elements: dict[str, str], end: str | None = None) -> tuple[Loop, str]:
        """A loop, and what its items are: numbers (`number`) or lists."""
        outer = [name for name, kind in elements.items() if kind == "rows"]
        choices: list[tuple[Any, str]] = [([1, 2, 3], "number"), ([2], "number"), ([], "number")]
        choices += [("{{ workload.items }}", "number"), ("[1, 0]", "number"), ("{{ workload.rows }}", "rows")]
        choices += [(f"{{{{ {name} }}}}", "number") for name in outer for _ in range(4)]
        if self.trouble and self.seldom(20):
            choices = [("{{ workload.flag }}", "number")]
        items, kind = self.pick(choices)
        fields: dict[str, Any] = {}
        if self.seldom(3):
            fields["filter"] = (
                f"{{{{ {element} is odd }}}}" if kind == "number" else f"{{{{ {element} | length > 0 }}}}"
            )
        if self.seldom(3):
            fields["mode"] = "sequential"
        elif self.seldom(3):
            fields["concurrency"] = self.pick([2, 1])
        if self.seldom(3):
            fields["on_error"] = "continue"
        if self.features.loop_options:
            if self.seldom(5):
                by = f"{{{{ 0 - {element} }}}}" if kind == "number" else f"{{{{ {element} | length }}}}"
                fields["order_by"] = by
            if self.seldom(5):
                fields["limit"] = self.pick([2, 1, 0, "{{ workload.limit }}"])
            if self.seldom(5):
                fields["chunk"] = self.pick([2, 1, 3])
                kind = "rows" if kind == "number" else "lists of rows"
        return Loop(items=items, element=element, end=end, **fields), kind

    # -- where a step leads -----------------------------------------------------------------------------

    def step(self, draft: _Draft) -> Step:
        """The finished step."""
        fields = dict(draft.fields)
        transitions: list[Transition] = []
        for name in draft.targets:
            transitions.append(self.transition(draft, name))
            if self.seldom(12):
                transitions.append(self.transition(draft, name))
        for name in draft.back:
            condition = f"{{{{ {draft.name}.n | default(1) % 2 == 0 }}}}"
            if fields.get("result") is not None:
                condition = "{{ workload.flag }}"
            target = (Target(step=name, inputs={"given": "again"} if self.handing and self.seldom(3) else {}),)
            transitions.insert(0, Transition(kind="condition", when=condition, then=target))
        if self.trouble and draft.targets and "loop" not in fields and self.seldom(5):
            condition = self.pick(["{{ %s.status == 'error' }}", "{{ %s.error }}", "{{ steps.%s.status == 'error' }}"])
            then = (Target(step=self.pick(draft.targets)),)
            transitions.append(Transition(kind="condition", when=condition % draft.name, then=then))
        loop = fields.get("loop")
        started = [fields.get(key) for key in ("inputs", "skip_if", "run_if", "result")]
        if loop is not None:
            started += [loop.items, loop.filter, loop.order_by, loop.limit]
        left = [[item.when, [target.inputs for target in (*item.then, *item.otherwise)]] for item in transitions]
        left.append([None, [target.inputs for target in fields.get("error_targets", ())]])
        saves = [fields.get("save"), loop.save if loop is not None else None]
        left += [[save.when, save.action.arguments] for save in saves if save is not None]
        return Step(
            name=draft.name,
            next=tuple(transitions),
            start_reads=tuple(sorted(names_read(started))),
            next_reads=tuple(sorted(names_read(left))),
            **fields,
        )

    def transition(self, draft: _Draft, name: str) -> Transition:
        kind = self.pick(["always", "always", "always", "when", "when", "else", "default"])
        targets = (self.target(draft, name),)
        if kind == "always":
            return Transition(kind="always", then=targets)
        if kind == "default":
            return Transition(kind="default", then=targets)
        other = self.pick(draft.targets)
        otherwise = (self.target(draft, other),) if kind == "else" else ()
        return Transition(kind="condition", when=self.condition(draft), then=targets, otherwise=otherwise)

    def target(self, draft: _Draft, name: str) -> Target:
        inputs: dict[str, Any] = {}
        if not self.handing:
            return Target(step=name)
        if self.seldom(3):
            inputs["given"] = self.pick(
                [draft.name, f"{{{{ {draft.name}.n | default(0) }}}}", "{{ given | default(1) }}"]
            )
        if self.seldom(6):
            inputs["more"] = self.pick([1, "{{ [_loop.index | default(0)] }}" if draft.elements else 2])
        if "loop" in draft.fields and draft.fields["loop"].end is not None:
            inputs = {"given": f"{{{{ {draft.fields['loop'].element} }}}}"} if inputs else {}
        return Target(step=name, inputs=inputs)

    def condition(self, draft: _Draft) -> str:
        own = draft.name
        choices = ["{{ true }}", "{{ 1 > 2 }}", "{{ workload.flag }}", "{{ workload.off }}", "{{ nothing.x }}"]
        loop = draft.fields.get("loop")
        if loop is not None and loop.end is not None:
            return self.pick([*choices, f"{{{{ {loop.element} is odd }}}}", "{{ _loop.index > 0 }}"])
        choices += [f"{{{{ {own}.n % 2 == 0 }}}}"] * 3
        choices += [f"{{{{ {element} is odd }}}}" for element in draft.elements]
        if self.trouble:
            choices += [f"{{{{ {own}.status == 'success' }}}}", "{{ status == 'error' }}"]
        return self.pick(choices)

    def end_step(self) -> Step:
        """`end`, which sums up what every step came to."""
        result: dict[str, Any] = {}
        for draft in self.drafts:
            name = draft.name
            result[name] = [f"{{{{ steps.{name}.status | default(none) }}}}", f"{{{{ {name}.n | default(none) }}}}"]
            if "loop" in draft.fields:
                failed = f"{{{{ ({name}.errors | default([])) | map(attribute='index') | list }}}}"
                result[name] += [f"{{{{ {name}.results | default(none) }}}}", failed]
                result[name].append(f"{{{{ steps.{name}.meta.item_saves['items'] | default(none) }}}}")
            if "save" in draft.fields:
                result[name].append(f"{{{{ steps.{name}.meta.save | default(none) }}}}")
                result[name].append(f"{{{{ steps.{name}.meta.save_error.code | default(none) }}}}")
        return Step(name="end", result=result, start_reads=tuple(sorted(names_read(result))))


def without_target(step: Step, name: str) -> Step:
    """The step, leading nowhere where it led to `name`."""

    def kept(targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return tuple(target for target in targets if target.step != name)

    items = [item.model_copy(update={"then": kept(item.then), "otherwise": kept(item.otherwise)}) for item in step.next]
    left = tuple(item for item in items if item.then or item.otherwise)
    routes = kept(step.error_targets)
    on_error = "fail" if step.on_error == "route" and not routes else step.on_error
    return step.model_copy(update={"next": left, "error_targets": routes, "on_error": on_error})


__all__ = ["ALL", "OLD", "Case", "Features", "case_from", "cases", "playbook_from", "replace"]
