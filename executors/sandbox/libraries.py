"""Keeps the interpreter's own library importable after the change of uid.

An interpreter below a closed directory (a home folder) is out of reach for an unprivileged uid. The zygote
opens such directories while it still may, and puts the open descriptors on the import path instead.
Knows nothing of jobs.
"""

from __future__ import annotations

import os
import stat
import sys


def keep_importable() -> list[int]:
    """Replace closed entries of `sys.path`; the descriptors a child has to keep open."""
    replaced: dict[str, str] = {}
    descriptors = []
    for entry in sys.path:
        if os.path.isdir(entry) and not is_open_to_others(entry):
            descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY)
            descriptors.append(descriptor)
            replaced[entry] = f"/proc/self/fd/{descriptor}"
    sys.path[:] = [replaced.get(entry, entry) for entry in sys.path]
    if replaced:
        _move_loaded_packages(replaced)
        sys.path_importer_cache.clear()
    return descriptors


def is_open_to_others(path: str) -> bool:
    """Whether every directory on the way may be entered by anyone, and the last one read."""
    real = os.path.realpath(path)
    if not os.stat(real).st_mode & stat.S_IROTH:
        return False
    while True:
        if not os.stat(real).st_mode & stat.S_IXOTH:
            return False
        if real == "/":
            return True
        real = os.path.dirname(real)


def _move_loaded_packages(replaced: dict[str, str]) -> None:
    """Packages imported at start-up (`encodings`) look for their submodules under the old name."""
    longest_first = sorted(replaced, key=len, reverse=True)
    for module in list(sys.modules.values()):
        places = getattr(module, "__path__", None)
        if not isinstance(places, list):
            continue
        for index, place in enumerate(places):
            for entry in longest_first:
                if place.startswith(entry + "/"):
                    places[index] = replaced[entry] + place[len(entry) :]
                    break
