#!/usr/bin/env python3
"""Every command of the platform: `python manage.py <command>`."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command named on the command line. Returns: its exit code."""
    if sys.platform != "linux":
        # Sandboxes, and how programs end with those that started them, are the kernel's.
        sys.stderr.write("NoETL runs on Linux: elsewhere use its container image, or a virtual machine\n")
        return 1
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noetl_site.settings")
    from noetl_site.exits import run_command_line

    return run_command_line(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
