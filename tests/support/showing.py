"""What a playbook of the corpus comes to with no server, in the words of its expectations, to compare them with.

python -m tests.support.showing GROUP/NAME ...
"""

from __future__ import annotations

import os
import shutil
import sys

import django
import yaml

from noetl_site import embedded
from tests.support.corpus import events_by_node, read_cases


def main(names: list[str]) -> None:
    """Run the playbooks and write what came of them."""
    from tests.support.playing import play_locally
    from tests.support.webserver import running_webserver

    cases = [case for case in read_cases() if case.name in names]
    with running_webserver() as api:
        plays = play_locally(cases, api)
    for name, told in plays.items():
        if isinstance(told, BaseException):
            raise told
        shown = {
            "warnings": told.warnings,
            "status": told.refused or told.status,
            "result": told.result,
            "error": told.error,
            "events": events_by_node(told.execution_id, told.log),
        }
        sys.stdout.write(f"# {name}\n{yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=120)}\n")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    try:
        main(sys.argv[1:])
    finally:
        embedded.release()
        shutil.rmtree(os.environ["NOETL_TEST_DATA_DIR"], ignore_errors=True)
