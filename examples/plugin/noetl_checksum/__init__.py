"""The kind `checksum`: what a text's digest is. A whole plugin: one class, and one entry point in pyproject.toml."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar, Literal

from pydantic import Field

from executors.contract import ActionContext, ActionFailed, ActionKind, ActionRequest, Arguments

MOST_BYTES = 1 << 20


class ChecksumArguments(Arguments):
    """Every argument but those of code is a template."""

    text: str = Field(description="what is read")
    algorithm: Literal["sha256", "sha1", "md5"] = Field("sha256", description="how it is read")


class ChecksumAction(ActionKind):
    """Gives the digest of a text."""

    name: ClassVar[str] = "checksum"
    Arguments: ClassVar[type[Arguments]] = ChecksumArguments
    result: ClassVar[str] = "`{algorithm, digest, bytes}`: `digest` in hexadecimal, `bytes` of the text in UTF-8."
    errors: ClassVar[dict[str, str]] = {"text_too_large": "The text is larger than 1 MB."}
    example: ClassVar[str] = """
workflow:
  - {step: start, type: checksum, text: "hello", next: end}
  - {step: end, result: "{{ start.digest }}"}
"""

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """The digest. Raises: `ActionFailed`."""
        arguments = ChecksumArguments.check(request.arguments)
        data = arguments.text.encode()
        if len(data) > MOST_BYTES:
            raise ActionFailed("text_too_large", f"the text has {len(data)} bytes; {MOST_BYTES} are read at most")
        digest = hashlib.new(arguments.algorithm, data, usedforsecurity=False).hexdigest()
        return {"algorithm": arguments.algorithm, "digest": digest, "bytes": len(data)}
