"""Secrets that the worker has at hand: its environment, a folder of files, the stored credentials."""

from __future__ import annotations

from typing import Final

from executors.actions.secrets.asking import Asked, Secret
from executors.contract import ActionFailed

MAX_FILE_BYTES: Final = 256 * 1024


def fetch_from_environment(asked: Asked) -> Secret:
    """`NOETL_SECRET_NAME` of the worker; no other variable is ever read."""
    return Secret(asked.context.environment_secret(asked.arguments.secret_name))


def fetch_from_file(asked: Asked) -> Secret:
    """A file inside the worker's `NOETL_SECRETS_DIR`, without the line break at its end."""
    name, folder = asked.arguments.secret_name, asked.folder
    if folder is None:
        raise ActionFailed("secret_forbidden", "no folder of secrets is configured here (NOETL_SECRETS_DIR)")
    missing = ActionFailed("secret_not_found", f"there is no file {name!r} in the folder of secrets")
    try:
        root = folder.resolve()
        path = (root / name).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise missing
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ActionFailed("secret_not_found", f"the file {name!r} is larger than {MAX_FILE_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        # Without the cause: it may quote what was read.
        raise missing from None
    return Secret(text.removesuffix("\n").removesuffix("\r"))


def fetch_from_credential(asked: Asked) -> Secret:
    """One field of a stored credential: the one that is asked for, `value`, or its only secret one."""
    name = asked.arguments.secret_name
    if asked.arguments.field is None:
        # The same rule as for `{{ secret.NAME }}`, but never from the environment.
        return Secret(asked.context.stored_secret(name))
    return Secret(asked.one_field(asked.context.credential(name).data))
