"""Six shapes of playbook that faults are brought upon, each with the result that it must have whatever happens.

Results depend on the workload's `n` alone: neither on how often an action was tried nor on who ran it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

HEAD: Final = "apiVersion: noetl.io/v1\nkind: Playbook\n"

LINE: Final = """
name: line
path: faults/line
workload: {n: 1}
workflow:
  - {step: start, next: one}
  - {step: one, type: python, with: {n: "{{ n }}"}, code: "def main(n): return n + 1", next: two}
  - {step: two, type: python, with: {n: "{{ one.data }}"}, code: "def main(n): return n * 10", next: three}
  - {step: three, type: python, with: {n: "{{ two.data }}"}, code: "def main(n): return n - 3", next: end}
  - {step: end, result: "{{ three.data }}"}
"""

BRANCHES: Final = """
name: branches
path: faults/branches
workload: {n: 1}
workflow:
  - {step: start, next: [left, right]}
  - {step: left, type: python, with: {n: "{{ n }}"}, code: "def main(n): return n * 2", next: meet}
  - step: right
    type: python
    with: {n: "{{ n }}"}
    code: "def main(n): return n * 3"
    next:
      - {when: "{{ right.data % 2 == 0 }}", then: even}
      - {else: odd}
  - step: even
    type: python
    code: "def main(): return 'even'"
    next: {step: either, with: {of: "{{ even.data }}"}}
  - step: odd
    type: python
    code: "def main(): return 'odd'"
    next: {step: either, with: {of: "{{ odd.data }}"}}
  - {step: either, type: python, with: {of: "{{ of }}"}, code: "def main(of): return of", next: meet}
  - {step: meet, join: all, next: last}
  - step: last
    type: python
    with: {sum: "{{ left.data + right.data }}"}
    code: "def main(sum): return sum"
    next: end
  - step: end
    result: ["{{ last.data }}", "{{ either.data }}"]
"""

FAN: Final = """
name: fan
path: faults/fan
workload: {n: 1, items: 7}
workflow:
  - {step: start, next: each}
  - step: each
    type: python
    loop: {in: "{{ range(items) | list }}", iterator: item, save: {chunk_size: 3, data: "{{ [item, data] }}"}}
    with: {item: "{{ item }}", n: "{{ n }}"}
    code: "def main(item, n): return item * n"
    save: {on_error: fail}
    next: end
  - {step: end, result: "{{ steps.each.meta.save.data.results if steps.each.meta.item_saves.errors == [] }}"}
"""

NESTED: Final = """
name: nested
path: faults/nested
workload: {n: 1}
workflow:
  - {step: start, next: stores}
  - {step: stores, loop: {in: "{{ [n, n + 1] }}", iterator: store}, next: count}
  - step: count
    type: python
    with: {store: "{{ store }}"}
    code: "def main(store): return [store, store * 2]"
    next: desks
  - {step: desks, loop: {in: "{{ count.data }}", iterator: desk}, next: look}
  - {step: look, type: python, with: {desk: "{{ desk }}"}, code: "def main(desk): return desk + 100", next: close_desks}
  - step: close_desks
    end_loop: desks
    result: {looks: "{{ desks_results | map(attribute='look') | list }}"}
    next: close_stores
  - {step: close_stores, end_loop: stores, next: end}
  - {step: end, result: "{{ stores_results | map(attribute='close_desks') | map(attribute='looks') | list }}"}
"""

CHILD: Final = """
name: child
path: faults/child
workload: {n: 1}
workflow:
  - {step: start, next: square}
  - {step: square, type: python, with: {n: "{{ n }}"}, code: "def main(n): return n * n", next: end}
  - {step: end, result: "{{ square.data }}"}
"""

CHILDREN: Final = """
name: children
path: faults/children
workload: {n: 1}
workflow:
  - {step: start, next: [each, alone]}
  - step: each
    type: playbook
    path: faults/child
    loop: {in: "{{ [n, n + 1] }}", iterator: one}
    with: {n: "{{ one }}"}
    next: meet
  - {step: alone, type: playbook, path: faults/line, with: {n: "{{ n }}"}, next: meet}
  - {step: meet, join: all, next: end}
  - {step: end, result: ["{{ each.results }}", "{{ alone.result }}"]}
"""

PATIENCE: Final = """
name: patience
path: faults/patience
workload: {n: 1}
timeout: 6h
workflow:
  - {step: start, next: flaky}
  - step: flaky
    type: python
    retry: {max_attempts: 9, initial_delay: 20ms, backoff_multiplier: 1}
    timeout: 1h
    with: {n: "{{ n }}"}
    code: |
      def main(n):
          if context["attempt"] < 3:
              raise ValueError("busy")
          return n + 5
    next: nap
  - {step: nap, type: wait, duration: 50ms, next: never}
  - step: never
    type: wait
    signal: never
    timeout: 50ms
    next:
      - {when: "{{ error.code == 'timeout' }}", then: {step: after, with: {n: "{{ flaky.data }}"}}}
  - {step: after, type: python, with: {n: "{{ n }}"}, code: "def main(n): return n * 2", next: end}
  - {step: end, result: "{{ after.data }}"}
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """A playbook, and what comes of it for a workload's `n`."""

    name: str
    text: str
    result_for: Callable[[int], Any]

    @property
    def path(self) -> str:
        """Its path in the catalog."""
        return f"faults/{self.name}"


def _branches(n: int) -> list[Any]:
    return [5 * n, "odd" if n % 2 else "even"]


def _nested(n: int) -> list[list[int]]:
    return [[store + 100, store * 2 + 100] for store in (n, n + 1)]


SHAPES: Final = (
    Shape("line", LINE, lambda n: (n + 1) * 10 - 3),
    Shape("branches", BRANCHES, _branches),
    Shape("fan", FAN, lambda n: [item * n for item in range(7)]),
    Shape("nested", NESTED, _nested),
    Shape("children", CHILDREN, lambda n: [[n * n, (n + 1) * (n + 1)], (n + 1) * 10 - 3]),
    Shape("patience", PATIENCE, lambda n: (n + 5) * 2),
)
BY_NAME: Final = {shape.name: shape for shape in SHAPES}
TEXTS: Final = [HEAD + text for text in (CHILD, *(shape.text for shape in SHAPES))]
