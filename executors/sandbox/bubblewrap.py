"""How a job's child is put inside bubblewrap: the command that wraps it, and the program that starts there.

As a script (`python -I bubblewrap.py WIRE PROGRAM SPEC`) it is a child in a new interpreter: without the zygote's
preloaded libraries, in a file system that is read-only but for a private /tmp, with no network and no other process.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # A plain script has no package; only the modules named here are taken from the project.
    sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))]
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import importlib
import shutil
import socket
from typing import Any

from executors.sandbox import child, frames, jail
from executors.sandbox.frames import ChildSpec

WIRE = 3
WORKDIR = "/tmp/job"  # noqa: S108  (nobody else's: the folder around it is private)
SANDBOX = os.path.dirname(os.path.abspath(__file__))
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/mime.types")
"""What libraries look for outside of /usr; nothing of this host's accounts, names and keys."""


def find() -> str | None:
    """Where bubblewrap's program is, by this process's PATH."""
    return shutil.which("bwrap")


def command(bwrap: str, program: str, spec: ChildSpec) -> tuple[str, ...]:
    """The command line of a wrapped child, which inherits its wire as descriptor `WIRE`."""
    size = ["--size", str(spec.file_bytes)] if spec.file_bytes else []
    own = [*size, "--perms", "1777", "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"]  # noqa: S108  (the child's own)
    # The private /tmp first: this project may lie below /tmp itself.
    options = [*_namespaces(spec), "--die-with-parent", "--new-session", *own, *_files(), "--remount-ro", "/"]
    script = os.path.join(SANDBOX, "bubblewrap.py")
    inner = (sys.executable, "-I", "-B", script, str(WIRE), program, spec.encode().decode())
    return (bwrap, *options, "--", *inner)


def _namespaces(spec: ChildSpec) -> list[str]:
    if spec.uid is None:
        return ["--unshare-all"]
    # All but the namespace of users: root needs none, and inside it there would be no other user to become.
    kinds = [f"--unshare-{kind}" for kind in ("ipc", "pid", "net", "uts", "cgroup-try")]
    return [*kinds, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]


def _files() -> list[str]:
    options = []
    for path in SYSTEM:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            options += ["--ro-bind", path, path]
    mine = (sys.base_prefix, sys.prefix, SANDBOX, os.path.join(os.path.dirname(SANDBOX), "__init__.py"))
    bound = ["/usr"]
    # Also where links lead to: an environment's interpreter is one.
    for path in [*mine, *(os.path.realpath(path) for path in (*mine, sys.executable))]:
        if not any(f"{path}/".startswith(f"{folder}/") for folder in bound):
            options += [*_folders_above(path), "--ro-bind", path, path]
            bound.append(path)
    options += ["--dir", "/etc"]
    for path in FILES:
        options += ["--ro-bind-try", path, path]
    return options


def _folders_above(path: str) -> list[str]:
    """Made one by one: those that bubblewrap makes for root are closed to everybody else."""
    parts = path.split("/")[1:-1]
    return [word for count in range(len(parts)) for word in ("--dir", "/" + "/".join(parts[: count + 1]))]


def main(wire_descriptor: int, program_name: str, spec: ChildSpec) -> None:
    """Become the child that this spec tells of, and serve."""
    wire = socket.socket(fileno=wire_descriptor)
    wire.set_inheritable(False)
    os.environ.clear()
    try:
        jail.confine(spec)
        program: Any = importlib.import_module(child.PROGRAMS[program_name])
    except BaseException as error:
        # Whatever keeps it from being confined, nothing is run.
        child.refuse(wire, f"{type(error).__name__}: {error}")
        return
    frames.say_hello(wire)
    child.serve(wire, spec, program)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], ChildSpec.decode(sys.argv[3].encode()))
