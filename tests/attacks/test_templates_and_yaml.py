"""Templates and YAML as somebody hostile writes them: registered, rendered and read back, each refused or plain data."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from catalog.api import validate_text
from executions.domain.results import MISSING, StepResult
from executions.domain.templating import render
from executions.errors import TemplateError

SECONDS = 2.0
"""Within which everything is answered (the law of this folder)."""
HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: attack\npath: tests/attack\n"
FLOW = "workflow:\n  - {step: start, next: end}\n  - {step: end}\n"
MARKS = ("<class", "<function", "<built-in", "<bound", "<module", "object at 0x", "/usr/", "root:x:0")
"""What would show that a template reached Python's own objects or the machine's files."""


def in_time(what: Callable[[], Any]) -> Any:
    # Of the processor: nothing here waits, and what else this machine does is not counted.
    begun_at = time.thread_time()
    try:
        return what()
    finally:
        assert time.thread_time() - begun_at < SECONDS


def rendered(template: Any) -> Any:
    names = {"n": 3, "text": "abc", "items": [1, 2], "map": {"a": 1}, "s": StepResult("success", {"x": 1})}
    return render(template, lambda name: names.get(name, MISSING))


def told(template: str) -> str:
    """What a template gives, or why it gives nothing; plain JSON either way."""
    try:
        return json.dumps(rendered(template), allow_nan=False)
    except TemplateError as refused:
        return json.dumps({"refused": str(refused)[:10_000]})


ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "{{ ''['__cla' ~ 'ss__'] }}",
    "{{ map['__class__'] }}",
    "{{ [].__class__.__base__.__subclasses__() }}",
    "{{ (1).__class__.__mro__[1].__subclasses__() }}",
    "{{ range.__init__.__globals__ }}",
    "{{ dict.__base__ }}",
    "{{ dict.fromkeys.__self__ }}",
    "{{ namespace().__class__ }}",
    "{{ now.__globals__ }}",
    "{{ now().__class__ }}",
    "{{ s.__class__ }}",
    "{{ s.data.__class__ }}",
    "{{ s._StepResult__data }}",
    "{{ s.__dict__ }}",
    "{{ s.__getattribute__('data') }}",
    "{{ '{0.__class__}'.format(s) }}",
    "{{ '{0.__class__}'.format_map(map) }}",
    "{{ '{s.__class__.__init__.__globals__}' | format(s=s) }}",
    "{{ '%(a)s' | format(a=s.__class__) }}",
    "{{ text.encode.__self__ }}",
    "{{ text.format.__globals__ }}",
    "{{ items.append(3) }}",
    "{{ items.sort() }}",
    "{{ map.update({'b': 2}) }}",
    "{{ map.pop('a') }}",
    "{{ map.__setitem__('b', 2) }}",
    "{{ self.__init__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ config }}",
    "{{ request.application }}",
    "{{ environment }}",
    "{{ url_for.__globals__ }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ __builtins__ }}",
    "{{ __import__('os') }}",
    "{{ open('/etc/passwd').read() }}",
    "{{ eval('1+1') }}",
    "{% import 'os' as os %}{{ os }}",
    "{% from 'os' import system %}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
    "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{% endmacro %}{{ m.__class__ }}",
    "{% call(x) items.append() %}{% endcall %}",
    "{% set x = ''.__class__ %}{{ x }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{% if ''.__class__ %}yes{% endif %}",
    "{% filter attr('__class__') %}x{% endfilter %}",
    "{% block a %}{{ self.a.__globals__ }}{% endblock %}",
    "{% do items.append(1) %}",
    "{% debug %}",
    "{% autoescape true %}{{ ''.__class__ }}{% endautoescape %}",
    "{{ items | map('attr', '__class__') | list }}",
    "{{ items | map(attribute='__class__') | list }}",
    "{{ [s] | map(attribute='__class__.__init__.__globals__') | list }}",
    "{{ [s] | groupby('__class__') | list }}",
    "{{ [s] | sort(attribute='__class__') | list }}",
    "{{ [s] | selectattr('__class__') | list }}",
    "{{ [s] | sum(attribute='__class__') }}",
    "{{ [s] | unique(attribute='__class__') | list }}",
    "{{ [s] | min(attribute='__class__') }}",
    "{{ [s] | join(',', attribute='__class__') }}",
    "{{ s | pprint }}{{ s.__repr__ }}",
    "{{ loop.__init__ }}",
    "{% for i in items %}{{ loop.__class__ }}{% endfor %}",
    "{% for i in items %}{{ loop._iterator }}{% endfor %}",
    "{% for i in items recursive %}{{ loop(items) }}{% endfor %}",
]
BOMBS = [
    "{{ 'a' * 10 ** 9 }}",
    "{{ [0] * 10 ** 9 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ 2 ** 10 ** 8 }}",
    "{{ 1 << 10 ** 9 }}",
    "{{ range(10 ** 12) | list }}",
    "{{ range(10 ** 12) | sum }}",
    "{{ range(10 ** 12) | max }}",
    "{{ range(10 ** 12) | join }}",
    "{{ (10 ** 5000) | string }}",
    "{{ 'a' | center(10 ** 9) }}",
    "{{ 'a' | indent(10 ** 9) }}",
    "{{ 'a' | wordwrap(1) * 10 ** 9 }}",
    "{{ '%1000000000s' | format('a') }}",
    "{{ 'a'.zfill(10 ** 9) }}",
    "{{ 'a'.expandtabs(10 ** 9) }}",
    "{{ '\\t'.expandtabs(10 ** 9) }}",
    "{{ text.replace('', 'x' * 1000000) }}",
    "{{ items | batch(10 ** 9, 0) | list }}",
    "{{ items | slice(10 ** 9) | list }}",
    "{% for a in range(10 ** 9) %}x{% endfor %}",
    "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}",
    "{% for a in range(300) %}{% for b in range(300) %}{% for c in range(300) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% set a = 'x' * 1000 %}" + "{% set a = a ~ a %}" * 30 + "{{ a }}",
    "{% set a = [1] %}" + "{% set a = [a, a] %}" * 60 + "{{ a }}",
    "{% set a = {} %}" + "{% set a = {'k': a} %}" * 500 + "{{ a }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n }}{% endmacro %}{{ f(40) }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "not " * 20000 + "1 }}",
    "{{ " + "-" * 20000 + "1 }}",
    "{{ " + "[" * 3000 + "]" * 3000 + " }}",
    "{{ 1" + " + 1" * 50000 + " }}",
    "{{ text" + "|upper" * 20000 + " }}",
    "{{ map" + ".a" * 20000 + " }}",
    "{% if 1 %}" * 2000 + "{% endif %}" * 2000,
    "{{ '" + "a" * 3_000_000 + "' }}",
    "{{ ('(' * 500 ~ ')' * 500) | fromjson }}",
    "{{ ('[' * 100000) | fromjson }}",
    "{{ ('[' * 100000 ~ ']' * 100000) | fromjson }}",
    "{{ ('9' * 100000) | int }}",
    "{{ ('9' * 100000) | float }}",
    "{{ ('1e' ~ '9' * 100000) | float }}",
    "{{ ('9' * 100000) | fromjson }}",
    "{{ 'a' | truncate(10 ** 12, true, 'b' * 100000) | length * 10 ** 9 }}",
    "{{ (items | tojson(indent=10 ** 9)) | length }}",
    "{{ ('<' * 100000) | striptags | length }}",
    "{{ ('<!--' * 100000) | striptags | length }}",
    "{{ ('www.a.' * 100000) | urlize | length }}",
    "{{ ('a' * 100000) | wordcount }}",
    "{{ 'x' | b64decode }}",
    "{{ ('A' * 3000000) | b64decode | length }}",
    *(
        f"{{{{ (['x' * 100000] * 100000) | map('{name}') | list | length }}}}"
        for name in ("upper", "tojson", "urlencode")
    ),
    "{{ (['x' * 100000] * 100000) | map('replace', 'x', 'yz') | list | length }}",
    "{{ (['x' * 100000] * 100000) | map('indent', 4, true) | join | length }}",
    "{{ (['x' * 100000] * 100000) | map('list') | map('sort') | list | length }}",
    "{{ range(100000) | map('string') | select('in', 'x' * 100000) | list | length }}",
    "{{ range(100000) | map('format', 'x' * 100000) | list | length }}",
    "{{ ([range(100000) | list] * 100000) | map('sum') | list | length }}",
    "{{ ([range(100000) | list] * 1000) | map('tojson') | list | length }}",
    "{{ ([range(100000) | list] * 1000) | map('batch', 1) | list | length }}",
    "{{ ([range(100000) | list] * 1000) | unique | list | length }}",
    "{{ ([range(100000) | list] * 1000) | sort | length }}",
    *(
        "{% set big = 'x' * 100000 %}{% set many = range(100000) | list %}{% for i in range(100000) %}"
        f"{{% set a = {work} %}}{{% endfor %}}"
        for work in (
            *("big.upper()", "big | title", "big ~ i", "big + 'y'", "big[::2]", "big == big ~ ''", "'y' in big"),
            *("big | urlencode", "big | striptags", "big.split('x')", "big is lower", "big | truncate(5)"),
            *("many + [i]", "many | sort", "many | list", "many[1:]", "many == many | list", "i in many | reverse"),
            *("many | join", "many | max", "many | unique | list", "many | groupby(0) | list", "dict(a=many)"),
            *("[many, many]", "many | map('string') | list", "many | select('odd') | list", "tojson(many)"),
            *("many | tojson | fromjson", "i in many", "many is sequence", "many | string", "big | wordcount"),
            *("big | b64encode", "big | replace('x', 'y')", "many | sum", "many | first", "many | slice(3)"),
            *("many | batch(3)", "many | dictsort", "big | format(i)", "big.count('y')", "many.index(99999)"),
        )
    ),
]
BROKEN = ["{{", "{% if %}", "{{ }", "{{ a b }}", "{% endif %}", "{% raw %}", "{{ 'a }}", "{#", "{% x %}", "{{ a | nosuch }}",
          "{{ \x00 }}", "{{ a.\ud800 }}", "{{ a." + "b" * 100_000 + " }}", "{{ a[" * 2000]  # fmt: skip


@pytest.mark.parametrize("template", [*ESCAPES, *BOMBS, *BROKEN], ids=lambda template: template[:60])
def test_a_template_is_refused_or_gives_plain_data(template: str) -> None:
    text = in_time(lambda: told(template))
    assert len(text) < 5_000_000 and not [mark for mark in MARKS if mark in text], text[:300]
    assert rendered("{{ n + 1 }} {{ items }}") == "4 [1, 2]", "what templates read is as it was"


def test_many_bombs_are_one() -> None:
    bomb = "{% set big = 'x' * 100000 %}{% for i in range(1000) %}{% set a = 'y' in big %}{% endfor %}"
    assert rendered(bomb) == ""
    with pytest.raises(TemplateError, match="too much"):
        in_time(lambda: rendered({f"a{n}": [bomb] for n in range(1000)}))


@pytest.mark.parametrize("template", [*ESCAPES, *BOMBS, *BROKEN], ids=lambda template: template[:60])
def test_a_playbook_with_it_is_answered_in_time(template: str) -> None:
    text = HEAD + "workload:\n  a: " + json.dumps(template) + "\n" + FLOW.replace("next: end", "when: x, next: end")
    playbook, problems = in_time(lambda: validate_text(text.replace("when: x", f"run_if: {json.dumps(template)}")))
    assert playbook is not None or problems


@pytest.mark.parametrize("hostile", [*ESCAPES, *BOMBS[:20]], ids=lambda template: template[:60])
def test_data_is_never_a_template(hostile: str) -> None:
    given = {"deep": [hostile, {"k": hostile}], hostile: 1}
    value = in_time(
        lambda: render({"a": "{{ d }}", "b": "x{{ d.deep[0] }}"}, lambda name: given if name == "d" else MISSING)
    )
    assert value == {"a": given, "b": f"x{hostile}"}


def laughs(depth: int) -> str:
    lines = ["a0: &a0 lol"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, depth)]
    return "\n".join(lines)


YAML = {
    "python object": "workload: !!python/object/apply:os.system ['true']\n",
    "python name": "workload: !!python/name:os.system\n",
    "python module": "workload: !!python/module:os\n",
    "python tuple": "workload: !!python/tuple [1]\n",
    "python new": "workload: !!python/object/new:subprocess.Popen [[ls]]\n",
    "ruby": "workload: !ruby/object:Gem::Installer {}\n",
    "java": "workload: !!javax.script.ScriptEngineManager []\n",
    "own tag": "workload: !include /etc/passwd\n",
    "env tag": "workload: !ENV ${HOME}\n",
    "binary": "workload: {a: !!binary aGk=}\n",
    "set": "workload: {a: !!set {x, y}}\n",
    "timestamp": "workload: {a: !!timestamp 2001-01-01}\n",
    "laughs": laughs(12),
    "short laughs": laughs(7),
    "alias of itself": "workload: &a {b: *a}\n",
    "alias before": "workload: {a: *later, b: &later 1}\n",
    "merge key": "workload: {<<: {a: 1}}\n",
    "merge list": "x: &x {a: 1}\nworkload: {<<: [*x, *x]}\n",
    "deep lists": "workload: " + "[" * 100_000,
    "deep maps": "workload: " + "{a: " * 100_000,
    "deep blocks": "workload:\n" + "".join("  " * n + "- \n" for n in range(1, 2000)),
    "complex key": "workload:\n  ? [a, b]\n  : 1\n",
    "list key": "workload: {[1]: 2}\n",
    "duplicate": "workload: {a: 1, a: 2}\n",
    "nul": "workload: {a: \x00}\n",
    "escaped nul": 'workload: {a: "\\0"}\n',
    "surrogate": 'workload: {a: "\\ud800"}\n',
    "bell": "workload: {a: \x07}\n",
    "bidi": "workload: {a: \u202e}\n",
    "bom inside": "workload: {a: \ufeff}\n",
    "tab": "workload:\n\ta: 1\n",
    "two documents": "workload: {}\n---\nkind: Playbook\n",
    "directive": "%YAML 9.9\n---\nworkload: {}\n",
    "tag directive": "%TAG ! tag:evil,2000:\n---\nworkload: {}\n",
    "infinity": "workload: {a: .inf, b: .nan}\n",
    "huge number": "workload: {a: " + "9" * 100_000 + "}\n",
    "huge exponent": "workload: {a: 1e999999999}\n",
    "hex bomb": "workload: {a: 0x" + "f" * 100_000 + "}\n",
    "long key": "workload: {" + "k" * 200_000 + ": 1}\n",
    "many keys": "workload: {" + ", ".join(f"k{n}: {n}" for n in range(60_000)) + "}\n",
    "many anchors": "".join(f"x{n}: &a{n} 1\n" for n in range(20_000)),
    "long line": "# " + "x" * 900_000 + "\n",
    "many comments": "#\n" * 300_000,
    "folded": "workload: {a: >\n" + " x\n" * 50_000 + "}\n",
    "quotes": "workload: {a: '" + "''" * 200_000 + "'}\n",
    "escapes": 'workload: {a: "' + "\\x41" * 100_000 + '"}\n',
    "open quote": 'workload: {a: "' + "x" * 300_000,
    "colons": ":" * 200_000,
    "question marks": "? " * 100_000,
    "dashes": "- " * 100_000,
    "ampersands": "&a " * 100_000,
    "stars": "*" * 100_000,
    "exclamations": "!" * 100_000,
    "percents": "%" * 100_000,
    "pipes": "a: |" + "9" * 1000 + "\n x",
    "no map": "[1, 2, 3]\n",
    "a text": "just a text\n",
    "nothing": "",
    "many steps": "workflow:\n" + "".join(f"  - {{step: s{n}, next: s{n + 1}}}\n" for n in range(3000)),
    "many targets": "workflow:\n  - {step: start, next: [" + ", ".join(["end"] * 20_000) + "]}\n  - {step: end}\n",
    "all to all": "workflow:\n"
    + "".join(f"  - {{step: s{n}, next: [{', '.join(f's{m}' for m in range(120))}]}}\n" for n in range(120)),
    "step of a dunder": "workflow:\n  - {step: __class__, next: end}\n  - {step: end}\n",
    "step of a path": "workflow:\n  - {step: ../../etc/passwd, next: end}\n  - {step: end}\n",
    "path that leads out": "path: ../../../etc\n",
    "step of a template": "workflow:\n  - {step: '{{ 7 * 7 }}', next: end}\n  - {step: end}\n",
}


@pytest.mark.parametrize("text", YAML.values(), ids=YAML)
def test_yaml_is_refused_or_plain(text: str) -> None:
    for whole in (text, HEAD + text, HEAD + text + FLOW):
        playbook, problems = in_time(partial(validate_text, whole))
        assert playbook is not None or problems
        for problem in problems:
            assert problem.line >= 0 and len(problem.message) < 2000
        if playbook is not None:
            # What was kept is data: it can be written down, and no object is in it.
            json.dumps(playbook.model_dump(mode="json"), allow_nan=False)
    playbook, problems = validate_text(HEAD + FLOW)
    assert playbook is not None and not problems
