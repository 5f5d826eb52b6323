"""Golden event logs: what each release has written, and every later one must still fold to the same meaning (rule R13).

`0.1.0/GROUP.NAME.jsonl` is of a playbook of `tests/playbooks`, `made.NAME.jsonl` of what no playbook does by itself.
The first line has the playbook's text and the meaning; each other one is an event as its row has it, with its `format`.
Before a release, `python -m tests.golden write` writes those of the version in `pyproject.toml`; they stay as they are.
"""
