"""A process fences itself in by Landlock, where the kernel has it: which files it may read and write, and which ports
it may connect to. Inherited by its threads and children, and never lifted.

A second wall behind a program's own rules, not the only one: older kernels, and some containers, have none.
Source: the kernel's userspace-api/landlock.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION: Final = 1
_PATH_BENEATH, _NET_PORT = 1, 2

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_ALL_OF_VERSION: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL: Final = (1 << 16) - 1
_TRUNCATE: Final = 1 << 14
_FILE_RIGHTS: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_READ: Final = _READ_FILE | _READ_DIR
# Not devices, sockets, pipes and links: character (6), socket (9), pipe (10), block (11), symbolic link (12).
_WRITE: Final = _ALL & ~_EXECUTE & ~sum(1 << bit for bit in (6, 9, 10, 11, 12))
_CONNECT_TCP: Final = 1 << 1
_NET: Final = 0b11

SYSTEM: Final = (
    *("/usr", "/lib", "/lib64", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/resolv.conf", "/etc/hosts"),
    *("/etc/nsswitch.conf", "/etc/gai.conf", "/etc/host.conf", "/etc/services", "/etc/localtime", "/etc/ld.so.cache"),
    *("/dev/urandom", "/dev/null", "/sys", "/proc/meminfo", "/proc/stat", "/proc/cpuinfo", "/proc/sys/vm"),
    # DuckDB asks for its bounds of memory, and dies where it cannot.
    *("/proc/self/cgroup", "/proc/self/mountinfo", "/proc/self/mounts", "/proc/self/status", "/proc/self/statm"),
)
"""What libraries read: nothing of this host's accounts and keys."""

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Of the kernel's Landlock; 0 where there is none."""
    found: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    return max(found, 0)


def fence_in(*, reads: Iterable[str], writes: Iterable[str], ports: Iterable[int]) -> bool:
    """Let this process read only below `reads`, `writes` and what the system needs, write only below `writes`, start no
    program, and connect by TCP only to these ports.

    Paths that do not exist are left out. Returns: whether the kernel keeps to it. Raises: `OSError`.
    """
    abi = version()
    if not abi:
        return False
    handled = _ALL_OF_VERSION.get(abi, _ALL)
    with_net = abi >= 4
    ruleset = struct.pack("<QQ", handled, _NET) if with_net else struct.pack("<Q", handled)
    descriptor = _call(_CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    try:
        for path in {*SYSTEM, sys.prefix, sys.base_prefix, *sys.path, *reads}:
            _allow(descriptor, path, _READ & handled)
        for path in writes:
            _allow(descriptor, path, _WRITE & handled)
        for port in set(ports) if with_net else ():
            _call(_ADD_RULE, descriptor, _NET_PORT, struct.pack("<QQ", _CONNECT_TCP, port), 0)
        _call(_RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)
    return True


def _allow(descriptor: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _FILE_RIGHTS
        _call(_ADD_RULE, descriptor, _PATH_BENEATH, struct.pack("<Qi", rights, place), 0)
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
