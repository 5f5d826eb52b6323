"""What a child does to itself between the fork and the first line of foreign code.

Knows no program; the order of the steps is the point. This is a seat belt, not a multi-tenant wall.
"""

from __future__ import annotations

import math
import os
import resource
import select
import signal
import tempfile
import time
from collections.abc import Iterable

from executors.sandbox import linux
from executors.sandbox.frames import ChildSpec


def part(*, printed: int, keep: Iterable[int]) -> None:
    """Part from the zygote: a session of its own, and none of its descriptors but these."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _place_standard_streams(printed)
    close_all_but({0, 1, 2, *keep})


def confine(spec: ChildSpec) -> None:
    """Confine this process for good."""
    _set_limits(spec)
    if spec.uid is not None:
        os.setgroups([])
        os.setresgid(spec.gid, spec.gid, spec.gid)
        os.setresuid(spec.uid, spec.uid, spec.uid)
    linux.set_process_option(linux.PR_SET_NO_NEW_PRIVS, 1)
    # Orphans of its jobs come to the child itself, which looks for them.
    linux.set_process_option(linux.PR_SET_CHILD_SUBREAPER, 1)
    os.umask(0o077)
    # Inside bubblewrap nobody else could have made it.
    os.makedirs(spec.workdir, exist_ok=True)
    os.chdir(spec.workdir)
    tempfile.tempdir = spec.workdir


def die_with_zygote(lifeline: int) -> None:
    """To be called after any change of uid, which clears it. `lifeline`: a pipe whose other end only the zygote has."""
    linux.die_with_parent()
    # It may have died in between.
    if select.select([lifeline], [], [], 0)[0]:
        os._exit(0)
    os.close(lifeline)


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor of this process except these."""
    start = 0
    for descriptor in sorted(set(keep)):
        # An empty range from 0 would close everything (close_range takes -1 as the largest number).
        if start < descriptor:
            os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _place_standard_streams(printed: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(printed, 1)
    os.dup2(printed, 2)


def _set_limits(spec: ChildSpec) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    bounds = [
        (resource.RLIMIT_AS, spec.memory_bytes),
        (resource.RLIMIT_FSIZE, spec.file_bytes),
        (resource.RLIMIT_NOFILE, spec.open_files),
        (resource.RLIMIT_NPROC, spec.processes),
    ]
    for limit, bound in bounds:
        if bound:
            _limit(limit, bound, bound)


def limit_cpu(soft_seconds: int, hard_seconds: int | None) -> None:
    """Let this process use so many more seconds of CPU time. The hard limit, given once, cannot be raised again.

    Process 1 of a namespace does not feel the soft limit's SIGXCPU; the hard one kills.
    """
    used = math.ceil(time.process_time())
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1] if hard_seconds is None else used + hard_seconds
    _limit(resource.RLIMIT_CPU, used + soft_seconds, hard)


def _limit(limit: int, soft: int, hard: int) -> None:
    ceiling = resource.getrlimit(limit)[1]
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(limit, (soft, hard))
