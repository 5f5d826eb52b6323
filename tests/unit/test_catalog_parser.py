"""YAML: values of YAML 1.2, places, and bounds that no text gets past."""

from __future__ import annotations

import pytest

from catalog.domain.parser import MAX_TEXT_BYTES, parse


def codes(text: str) -> set[str]:
    return {problem.code for problem in parse(text).problems}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, text) for text in ("NO", "yes", "on", "off", "y", "22:22", "2026-01-02", "0o17", "017", "1_000")),
        *((text, text) for text in ("2001-12-14t21:59:43.10-05:00", "1.2.3", "0b1", "+", ".", "-x", "1e", "=")),
        *(("true", True), ("True", True), ("FALSE", False), ("null", None), ("~", None), ("", None)),
        *(
            ("12", 12),
            ("-3", -3),
            ("+4", 4),
            ("0", 0),
            ("0x1F", 31),
            ("1.50", 1.5),
            (".5", 0.5),
            ("1e5", 1e5),
        ),
        *(("'12'", "12"), ('"true"', "true"), ("!!str 5", "5"), ("! 5", "5"), ("'' ", "")),
    ],
)
def test_scalars(text: str, value: object) -> None:
    document = parse(f"key: {text}")
    assert not document.problems
    assert document.value == {"key": value}
    assert type(document.value["key"]) is type(value)


def test_keys_are_texts_as_written() -> None:
    assert parse("1: a\ntrue: b\nno: c\n~: d").value == {"1": "a", "true": "b", "no": "c", "~": "d"}


def test_places_of_keys_values_and_lines_of_blocks() -> None:
    document = parse("a:\n  - b: 1\n    c/d: |\n      one\n        two\n  - >\n    folded\n    text\n")
    assert document.place("/a/0/b") == (2, 8)
    assert document.place("/a/0/b", key=True) == (2, 5)
    assert document.place("/a/0/c~1d", key=True) == (3, 5)
    assert document.place_inside("/a/0/c~1d", 2) == (5, 9)
    assert document.place_inside("/a/1", 2) == (6, 5)
    assert document.place("/a/7/nowhere") == (2, 3)


def test_aliases_are_read_and_shared() -> None:
    document = parse("a: &x {n: 1}\nb: [*x, *x]\n")
    assert document.value == {"a": {"n": 1}, "b": [{"n": 1}, {"n": 1}]}
    assert document.place("/b/1/n") == (2, 9)


def test_a_dropped_duplicate_keeps_the_place_of_the_first() -> None:
    document = parse("a: {x: 1}\nb: 2\na: {x: 5, y: 3}\n")
    assert document.value == {"a": {"x": 1}, "b": 2}
    assert document.place("/a/x") == (1, 8)


def alias_bomb(opening: str, closing: str) -> str:
    lines = [f"a: &a {opening}x{closing}"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        entries = ", ".join([f"*{before}"] * 9)
        lines.append(f"{name}: &{name} [{entries}]")
    return "\n".join(lines)


BOMBS = {
    "lists": ("[" * 200_000, "yaml_too_deep"),
    "closed lists": ("[" * 200_000 + "]" * 200_000, "yaml_too_deep"),
    "blocks": ("- " * 200_000, "yaml_too_deep"),
    "maps": ("{a: " * 50_000, "yaml_too_deep"),
    "questions": ("? " * 200_000, "yaml_complex_key"),
    "aliases": (alias_bomb("[", "]"), "yaml_too_large"),
    "long text aliased": ("a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 100 + "]", "yaml_too_large"),
    "deep by aliases": (
        "\n".join(f"a{i}: &a{i} [[[*a{i - 1}]]]" if i else "a0: &a0 1" for i in range(40)),
        "yaml_too_deep",
    ),
    "merge": (
        "a: &a {x: 1}\n" + "".join(f"b{i}:\n  <<: [*a, *a, *a]\n" for i in range(1000)),
        "yaml_merge_key",
    ),
    "itself": ("a: &a [*a]", "yaml_alias"),
    "wide": ("a: [" + "1," * 400_000 + "]", "yaml_too_large"),
    "large": ("a" * (MAX_TEXT_BYTES + 1), "yaml_too_large"),
    "duplicates": ("{" + "a," * 400_000 + "}", "duplicate_key"),
    "directives": ("%TAG ! x\n" * 100_000 + "--- a", "yaml_directives"),
    "directives later": ("a: 1\n...\n" + "%TAG ! x\n" * 100_000 + "--- a", "yaml_directives"),
    "anchors": ("&a " * 300_000, "yaml_syntax"),
    "number": ("a: " + "9" * 5000, "yaml_number"),
    "surrogate": ("a: \ud800", "yaml_character"),
    "control": ("a: \x01", "yaml_syntax"),
}


@pytest.mark.parametrize(("text", "code"), BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused(text: str, code: str) -> None:
    assert code in codes(text)
