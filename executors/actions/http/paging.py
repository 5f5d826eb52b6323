"""Pages of a reply, one after the other: how the next is asked for, what is kept, and when it is enough.

Knows replies as values; how one is got is handed in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from executors.actions.http.arguments import DEFAULT_MAX_PAGES, Pagination
from executors.actions.http.sending import address_from
from executors.contract import ActionFailed

SIZE_PARAMS: Final = {"page": "per_page", "offset": "limit", "cursor": "limit", "link": "limit"}
FIRST: Final = {"page": 1, "offset": 0}
NOTHING: Final = object()
ENDS: Final = (None, "", False)
"""What stands for a cursor or a link when there is no next page."""


@dataclass(frozen=True, slots=True)
class Page:
    """One reply; `url` is the address it came from, `link` what its `Link` header calls the next."""

    reply: dict[str, Any]
    url: str
    link: str | None


@dataclass(slots=True)
class Pages:
    """What was kept so far, `max_bytes` of JSON at most. `is_complete`: the server said that there is no more."""

    rules: Pagination
    max_bytes: int
    count: int = 0
    is_complete: bool = False
    merged: Any = None
    _size: int = 0
    _seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """What is merged begins empty."""
        if self.rules.merge != "replace":
            self.merged = []

    def first(self) -> dict[str, Any]:
        """What the first request says beside its own."""
        rules = self.rules
        said: dict[str, Any] = {}
        if rules.size is not None:
            said[rules.size_param or SIZE_PARAMS[rules.type]] = rules.size
        if rules.type in FIRST:
            said[rules.param or rules.type] = self._start
        return said

    @property
    def _start(self) -> int:
        return FIRST[self.rules.type] if self.rules.start is None else self.rules.start

    def take(self, page: Page) -> None:
        """Keep a page, unless it is the empty one that says that there is no more. Raises: `ActionFailed`."""
        rules = self.rules
        self.count += 1
        kept = value_at(page.reply, rules.path)
        if kept is NOTHING and self.count == 1:
            raise ActionFailed("pagination_invalid", f"the first page has nothing at {rules.path!r}")
        if rules.type in FIRST and _is_empty(kept):
            self.is_complete = True
            return
        kept = None if kept is NOTHING else kept
        size = len(json.dumps(kept))
        self._size = size if rules.merge == "replace" else self._size + size
        if self._size > self.max_bytes:
            message = f"the pages are larger than {self.max_bytes} bytes together; ask for less of them"
            raise ActionFailed("output_too_large", message)
        self._merge(kept)

    def _merge(self, kept: Any) -> None:
        match self.rules.merge:
            case "replace":
                self.merged = kept
            case "append":
                self.merged.append(kept)
            case "extend":
                if not isinstance(kept, list | None):
                    message = f"{self.rules.path!r} of page {self.count} is no list, which merge: extend joins"
                    raise ActionFailed("pagination_invalid", message)
                self.merged.extend(kept or [])

    def is_enough(self) -> bool:
        """Whether a bound of the step ends it. Raises: `ActionFailed` at the bound of a step that names none."""
        rules = self.rules
        if rules.max_items is not None and len(self.merged) >= rules.max_items:
            del self.merged[rules.max_items :]
            return True
        if rules.max_pages is not None:
            return self.count >= rules.max_pages
        if self.count >= DEFAULT_MAX_PAGES:
            message = f"there are more than {DEFAULT_MAX_PAGES} pages: name max_pages to get so many"
            raise ActionFailed("pagination_invalid", message)
        return False

    def next(self, page: Page) -> dict[str, Any] | str | None:
        """What the next request says beside its own, or its whole address; None when there is no next page.

        Raises: `ActionFailed`, `ValueError`.
        """
        if self.is_complete:
            return None
        said = self.first()
        match self.rules.type:
            case "page":
                said[self.rules.param or "page"] = self._start + self.count
            case "offset":
                said[self.rules.param or "offset"] = self._next_offset()
            case "cursor":
                cursor = value_at(page.reply, self.rules.cursor_path or "")
                if self._is_last(cursor):
                    return None
                said[self.rules.param or "cursor"] = cursor
            case "link":
                link = value_at(page.reply, self.rules.link_path) if self.rules.link_path else page.link
                if self._is_last(link):
                    return None
                # The link says all of it, the size too.
                return address_from(page.url, str(link))
        return said

    def _next_offset(self) -> int:
        if self.rules.size is not None:
            return self._start + self.count * self.rules.size
        if self.rules.merge != "extend":
            raise ActionFailed("pagination_invalid", "pagination of type offset needs a size, or merge: extend")
        return self._start + len(self.merged)

    def _is_last(self, told: Any) -> bool:
        if told is NOTHING or told in ENDS:
            self.is_complete = True
            return True
        if not isinstance(told, str | int) or str(told) in self._seen:
            word = "leads back to itself" if isinstance(told, str | int) else "is no text"
            raise ActionFailed("pagination_invalid", f"what page {self.count} tells of the next {word}")
        self._seen.add(str(told))
        return False


def value_at(reply: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path; a number counts in a list, from its end when it is negative. Else `NOTHING`."""
    found: Any = reply
    for part in path.split(".") if path else []:
        if isinstance(found, Mapping):
            # Names of headers have no case.
            is_headers = found is reply.get("headers")
            named = {str(key).lower(): key for key in found} if is_headers else {}
            found = found.get(named.get(part.lower(), part), NOTHING)
        elif isinstance(found, list) and part.removeprefix("-").isdecimal() and -len(found) <= int(part) < len(found):
            found = found[int(part)]
        else:
            return NOTHING
    return found


def _is_empty(kept: Any) -> bool:
    return kept is NOTHING or kept in (None, "", [], {})
