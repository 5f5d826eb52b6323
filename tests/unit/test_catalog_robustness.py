"""No text makes reading a playbook raise, and what is read keeps the model's promises."""

# ruff: noqa: E501, SIM905  (lists of words)

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from catalog.domain.codec import canonical_json
from catalog.domain.normalise import normalise, read_playbook
from catalog.domain.parser import Document, parse
from catalog.domain.playbook import Playbook
from tests.support.catalog_kinds import SCHEMAS
from tests.unit.test_catalog_normalise import ORDER_CHECK

WORDS = st.sampled_from(
    "apiVersion kind name path workload workbook workbooks workflow steps tasks metadata step task type tool action "
    "call with data args payload params pass when next then else next_mode loop in iterator filter where mode "
    "concurrency on_error timeout result code endpoint command max_visits start end load python http workbook "
    "retry end_loop save desc undo join finally coerce credentials tool transform template mapping script version return "
    "path duration until for signal message form approvers wait approval playbook iterator collection element task run "
    "order_by limit chunk enumerate distribution max_attempts jitter retry_when continue all any each steps_override "
    "initial_delay kind label required default".split()
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), WORDS, st.text(max_size=8),
    st.sampled_from(["{{ load.n }}", "{{ 1 + }}", "{% if a %}", "{{}}", "5m", "noetl.io/v1", "Playbook", "a:b"]),
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=25,
)


def judge(document: Document) -> None:
    playbook, problems = normalise(document, SCHEMAS)
    assert (playbook is None) == any(problem.severity == "error" for problem in problems)
    assert all(problem.line >= 1 and problem.column >= 1 and problem.message for problem in problems)
    if playbook is not None:
        assert Playbook.model_validate_json(canonical_json(playbook.model_dump(mode="json"))) == playbook
        assert len(playbook.ancestors) == len(playbook.steps)


@given(st.text())
def test_any_text(text: str) -> None:
    judge(parse(text))


@given(TREES)
def test_any_tree(tree: object) -> None:
    judge(Document(tree))


@given(st.lists(st.dictionaries(WORDS, TREES, max_size=5), max_size=4), st.dictionaries(WORDS, TREES, max_size=4))
def test_any_workflow(steps: list[dict[str, object]], more: dict[str, object]) -> None:
    head = {"apiVersion": "noetl.io/v1", "kind": "Playbook", "name": "a", "path": "a"}
    judge(Document({**more, **head, "workflow": [{"step": "start"}, *steps]}))


@given(st.data())
def test_mutated_playbooks(data: st.DataObject) -> None:
    text = ORDER_CHECK
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(text)))
        end = min(len(text), begin + data.draw(st.integers(0, 30)))
        text = (
            text[:begin]
            + data.draw(st.sampled_from(["", " ", "\n", ":", "- ", "{{", "}}", "&a ", "*a", "[", "'", "\t"]))
            + text[end:]
        )
    judge(parse(text))


def test_reading_twice_gives_the_same() -> None:
    first, problems = read_playbook(ORDER_CHECK, SCHEMAS)
    assert (first, problems) == read_playbook(ORDER_CHECK, SCHEMAS)
    assert problems == ()
