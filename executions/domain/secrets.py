"""References to secrets in rendered work: a template that says `{{ secret.NAME }}` renders to a mark, never to a value.

Beside the rendered work stands where marks are and of which names: the worker that runs it puts the values there, and
nowhere else. A text in data that looks like a mark stays a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from catalog.domain.parser import texts_in
from catalog.domain.template_syntax import env_read, names_read, secrets_read


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
