"""Writes the golden event logs of the version that is worked on: `python -m tests.golden write`.

A platform runs the playbooks; a selection of the corpus that has every event type and the ideas of the language. What
is there of this version already is left as it is, and exit code 1 says so: remove the folder while it is not released.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys


def main() -> int:
    """Write them. Returns: the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("command", choices=["write"])
    parser.parse_args()
    # A data folder of its own, which is removed at the end.
    os.environ.pop("NOETL_TEST_DATA_DIR", None)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    django.setup()
    from noetl_site import embedded
    from tests.settings import FOLDER as DATA

    try:
        return _write()
    finally:
        embedded.release()
        shutil.rmtree(os.environ[DATA], ignore_errors=True)


def _write() -> int:
    from tests.golden.logs import FOLDER, version
    from tests.golden.writing import write_all

    folder = FOLDER / version()
    if folder.exists():
        sys.stderr.write(f"{folder} is there already\n")
        return 1
    folder.mkdir()
    sys.stdout.write(f"{write_all(folder)} logs in {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
