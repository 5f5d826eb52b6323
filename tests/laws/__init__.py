"""The long run of the planner's laws over generated playbooks: `python -m tests.laws --help`."""
