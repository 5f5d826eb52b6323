"""References to secrets in rendered work: a template that says `{{ secret.NAME }}` renders to a mark, never to a value.

Beside the rendered work stands where marks are and of which names: the worker that runs it puts the values there, and
nowhere else. A text in data that looks like a mark stays a text.

The result of a step of the kind `secrets` is such a mark, too. Its name ends in dice that nothing outside of the
platform ever sees, so that it may travel through results and inputs as any text: where it turns up in work of the same
execution, that work is given the secret, and a text that somebody made up is never taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from catalog.domain.parser import texts_in
from catalog.domain.spelling import SECRETS
from catalog.domain.template_syntax import SECRET_VALUE, env_read, names_read, secrets_read

VALUE: Final = SECRET_VALUE
REFERENCE: Final = "reference"
_STEP_MARK: Final = re.compile("⟦secret:(@([^⟦⟧/]+)/[0-9a-f]+)⟧")


def mark_of(name: str) -> str:
    """What stands for a secret until the worker resolves it."""
    return f"⟦secret:{name}⟧"


class References(Mapping[str, str]):
    """`secret` in the templates of work: every name gives its mark."""

    def __getitem__(self, name: str) -> str:
        return mark_of(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def places_of_secrets(
    arguments: Mapping[str, Any], inputs: Mapping[str, Any], plain: Iterable[str], env: Mapping[str, str]
) -> dict[str, list[str]]:
    """Where the rendered work holds marks: JSON pointer -> names of secrets at it or below it.

    `arguments` and `inputs` are as the playbook has them; those of `plain` are no templates of secrets. An
    argument that reads an input reads the input's secrets. What is secret in `env` has its mark there for a value.
    """
    references = {name for name, value in env.items() if value == mark_of(name)}

    def secrets_in(value: Any) -> set[str]:
        return secrets_read(value) | (env_read(value) & references if references else set())

    of_inputs = {name: secrets_in(value) for name, value in inputs.items()}
    found: dict[str, set[str]] = {f"/inputs/{_escaped(name)}": names for name, names in of_inputs.items() if names}
    tainted = {name: names for name, names in of_inputs.items() if names}
    for key in arguments.keys() - set(plain):
        for text, pointer in texts_in(arguments[key], f"/arguments/{_escaped(key)}"):
            names = secrets_in(text)
            if tainted:
                read = names_read(text)
                every = set(tainted) if "input" in read else read & tainted.keys()
                names.update(name for input_ in every for name in tainted[input_])
            if names:
                found[pointer] = names
    return {pointer: sorted(names) for pointer, names in sorted(found.items())}


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


# -- steps of the kind `secrets` --------------------------------------------------------------------------


def gives_secret(kind: str) -> bool:
    """Whether a success of this kind of action is kept as `secret_result`, and a failure without its data."""
    return kind == SECRETS


def secret_result(data: Any, step: str, action: Mapping[str, Any], dice: str) -> dict[str, Any]:
    """What is kept of the success of a step of the kind `secrets`, whatever its worker said: never a value.

    `{secret_value, version, provider, reference}`: a mark, and what the step was asked for, by which a worker fetches
    the secret anew. `action` is the job's; `dice` are hexadecimal and not to be guessed.
    """
    told = data if isinstance(data, Mapping) else {}
    source = {name: action[name] for name in ("arguments", "secrets", "secret_sources") if action.get(name)}
    return {
        VALUE: mark_of(f"@{step}/{dice}"),
        "version": str(told.get("version") or "")[:200],
        "provider": action.get("arguments", {}).get("provider"),
        REFERENCE: source,
    }


def step_marks(value: Any, pointer: str) -> Iterator[tuple[str, str, str]]:
    """The marks of steps in rendered work: JSON pointer, name of the secret, name of the step."""
    for text, place in texts_in(value, pointer):
        if "⟦secret:@" in text:
            for found in _STEP_MARK.finditer(text):
                yield place, found[1], found[2]


def reference_in(data: Any, name: str) -> Mapping[str, Any] | None:
    """What the secret of this name was fetched with, by the data of its step, or of all items of its loop."""
    if not isinstance(data, Mapping):
        return None
    if data.get(VALUE) == mark_of(name) and isinstance(data.get(REFERENCE), Mapping):
        return dict(data[REFERENCE])
    items = data.get("results")
    if not isinstance(items, list):
        return None
    return next((found for item in items if (found := reference_in(item, name)) is not None), None)


def add_step_secrets(
    rendered: dict[str, Any], plain: Iterable[str], find: Callable[[str, str], Mapping[str, Any] | None]
) -> None:
    """Tell in rendered work where marks of steps are, and what their secrets were fetched with.

    Arguments in `plain` have none. `find` gives what a step's secret was fetched with, by the step and the secret's
    name, or None when there is no such step to be seen.
    """
    places: dict[str, list[str]] = {**rendered.get("secrets", {})}
    sources: dict[str, Any] = {}
    without = set(plain)
    arguments = {key: value for key, value in rendered["arguments"].items() if key not in without}
    for value, root in ((arguments, "/arguments"), (rendered["inputs"], "/inputs")):
        for place, name, step in step_marks(value, root):
            if name not in sources and (source := find(step, name)) is not None:
                sources[name] = source
            if name in sources:
                places[place] = sorted({*places.get(place, ()), name})
    if sources:
        rendered["secrets"], rendered["secret_sources"] = dict(sorted(places.items())), dict(sorted(sources.items()))
