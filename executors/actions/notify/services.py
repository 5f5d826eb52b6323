"""The services that apprise knows, less those that would reach past the worker's rules.

Knows apprise's classes and their URLs; nothing of steps. A service is used when all that it sends goes through the
stand-ins of `connections`: what opens sockets by itself, starts programs or speaks to the worker's own desktop or log
is refused, and so is a URL that names a file of the worker.
"""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Mapping
from functools import cache
from threading import Lock
from typing import Any, Final, cast

from executors.actions.notify.connections import REQUESTS, SMTPLIB

NOT_CHECKED: Final = frozenset({"socket", "subprocess", "ssl", "syslog", "ctypes", "http.client", "asyncio"})
"""Modules by which a service could reach out past the stand-ins."""
SOCKETS: Final = "apprise.utils.socket"
MAIL: Final = "apprise.plugins.email"
WRITES_FILES: Final = frozenset({"vapid"})
FILE_KEYS: Final = frozenset({"attach", "template", "keyfile", "subfile", "use_wkd", "pgp_mode", "pgp_key"})
"""What a URL is taken apart into, where it names files that the service reads on the worker, or keys of people."""

_loading = Lock()


class UrlRefused(ValueError):
    """A URL that is not used, with why; never with the URL."""


class Target:
    """One URL's service, ready to be told. `shown` is its address without anything that could be a secret."""

    def __init__(self, service: Any, schema: str) -> None:
        self.shown = _shown(service, schema)
        self.service = str(service.service_name)
        self._service = service

    def tell(self, *, title: str, body: str, level: str, form: str) -> bool:
        """Send it, in this thread. Returns: whether the service took it."""
        # Apprise takes attachments and paths to them from nowhere but its arguments and URLs.
        return bool(self._service.notify(body=body, title=title, notify_type=level, body_format=form))


def target_of(url: str) -> Target:
    """The service of a URL. Raises: `UrlRefused`."""
    kinds = services()
    told = _parsed(url)
    if told is None:
        raise UrlRefused("this is no address of a service that is known here")
    schema = str(told["schema"])
    kind = kinds[schema]
    if not _is_reached_safely(kind):
        raise UrlRefused(f"{schema}:// is not used: it does not go over connections that are checked")
    if named := sorted(FILE_KEYS & {name for name, value in told.items() if value}):
        raise UrlRefused(f"{schema}:// is not used with {', '.join(named)}: it would read files of the worker")
    try:
        service = kind(**{**told, "asset": _asset()})
    except Exception as error:
        # Whatever a service finds wrong with its URL; the text may quote it.
        raise UrlRefused(f"{schema}:// lacks something, or something in it is wrong ({type(error).__name__})") from None
    if not service.enabled:
        raise UrlRefused(f"{schema}:// needs a library that is not installed here")
    if any(_is_file(value) for value in vars(service).values()):
        raise UrlRefused(f"{schema}:// is not used with files of the worker")
    return Target(service, schema)


def _parsed(url: str) -> dict[str, Any] | None:
    from apprise import plugins

    parse: Any = plugins.url_to_dict
    return cast("dict[str, Any] | None", parse(url, secure_logging=True))


@cache
def _asset() -> Any:
    from apprise import AppriseAsset, PersistentStoreMode

    asset = AppriseAsset(
        storage_mode=PersistentStoreMode.MEMORY, secure_logging=True, allow_templates=False, image_url_mask=False
    )
    asset.app_id, asset.app_desc, asset.app_url = "NoETL", "NoETL", ""
    asset.http_redirects, asset.pem_autogen, asset.pgp_autogen = False, False, False
    return asset


def services() -> Mapping[str, Any]:
    """All services by their URLs' schemes, loaded once: it takes a second or two."""
    with _loading:
        return _load()


@cache
def _load() -> Mapping[str, Any]:
    from apprise import manager_plugins

    manager: Any = vars(manager_plugins)["NotificationManager"]()
    kinds = {schema: manager[schema] for schema in manager.schemas()}
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "apprise"]:
        for name, own, stand_in in (("requests", "requests", REQUESTS), ("smtplib", "smtplib", SMTPLIB)):
            found = vars(module).get(name)
            if isinstance(found, types.ModuleType) and found.__name__ == own:
                setattr(module, name, stand_in)
    # It tells of messages, people and addresses; what came of each is in the step's result.
    logging.getLogger("apprise").propagate = False
    return kinds


@cache
def _is_reached_safely(kind: Any) -> bool:
    names = {base.__module__ for base in kind.__mro__ if base.__module__.startswith("apprise.plugins.")}
    names -= {"apprise.plugins.base"}
    # `apprise.plugins.SERVICE.base` has its neighbours, `apprise.plugins.SERVICE` has none.
    packages = {name.rpartition(".")[0] for name in names} - {"apprise.plugins"}
    modules = [
        module
        for name, module in sys.modules.items()
        if name in names or any(name == package or name.startswith(f"{package}.") for package in packages)
    ]
    if any(name.split(".")[2] in WRITES_FILES for name in names):
        return False
    if kind.__module__.startswith(f"{MAIL}."):
        return True
    values = [value for module in modules for value in vars(module).values()]
    is_outside = any(isinstance(value, types.ModuleType) and value.__name__ in NOT_CHECKED for value in values)
    is_raw = any(getattr(value, "__module__", "") == SOCKETS for value in values)
    return any(value is REQUESTS for value in values) and not (is_outside or is_raw)


def _is_file(value: Any) -> bool:
    from apprise import AppriseAttachment

    return isinstance(value, AppriseAttachment) and len(value) > 0


def _shown(service: Any, schema: str) -> str:
    """Scheme and host where every form of the URL names a host; elsewhere a token stands in its place."""
    forms = [form for form in service.templates if form.startswith("{schema}://")]
    host = service.host if forms and all("{host}" in form or "{domain}" in form for form in forms) else None
    port = f":{service.port}" if host and service.port else ""
    return f"{schema}://{host}{port}/***" if host else f"{schema}://***"
