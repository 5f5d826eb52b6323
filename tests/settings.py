"""The settings of the tests: the platform's own, in a data folder of the test run.

Loaded before any conftest, so the folder is chosen here. Every process of a run shares it: pytest-xdist's workers
inherit its name. Nothing of the developer's environment counts.
"""

from __future__ import annotations

import os
import tempfile

FOLDER = "NOETL_TEST_DATA_DIR"
SCREENSHOTS = "NOETL_SCREENSHOTS"
"""Names the folder for the browser tests' pictures; without it they go into the run's temporary folder."""

if FOLDER not in os.environ:
    # A short path: sockets are kept in it.
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="noetl-test-", dir="/tmp")
for name in list(os.environ):
    if name not in (FOLDER, SCREENSHOTS) and name.startswith(("NOETL_", "DATABASE_", "REDIS_")):
        del os.environ[name]
os.environ["NOETL_DATA_DIR"] = os.environ[FOLDER]

from noetl_site.settings import *  # noqa: E402, F403  (the environment is set first; all of them)

# Hashing a password slowly is for attackers; tests create users by the dozen.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
