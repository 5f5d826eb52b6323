"""Runs a step's Python code, in the child. Knows how `main` is found and called; nothing of confinement.

Payload: `code`, `inputs` (map), `context` (map), and `packages` (a folder to import from) when it has some.
Standard library only: the zygote loads this file.
A process may run many jobs, one after the other: each has a namespace of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import importlib
import inspect
import json
import linecache
import logging
import os
import resource
import sys
import traceback
import types
import uuid
from collections.abc import Callable
from typing import Any

from executors.sandbox.frames import failure, success
from executors.sandbox.printing import LevelFormatter
from executors.sandbox.sanitise import OutputInvalid, sanitise

CODE_NAME = "<code>"
TRACEBACK_MAX_CHARACTERS = 16_000

PRELOADED = """
    base64 bisect calendar collections.abc concurrent.futures copy csv dataclasses decimal difflib
    enum fractions functools glob gzip hashlib heapq hmac html http.client io ipaddress itertools
    locale math operator pathlib pickle pprint queue random re secrets shutil socket sqlite3 ssl
    statistics string struct subprocess tempfile textwrap threading time types typing unicodedata
    urllib.error urllib.parse urllib.request xml.etree.ElementTree zipfile zlib zoneinfo
"""


def preload() -> None:
    """Import what steps commonly use, once for all jobs. A library built without one does without."""
    for name in PRELOADED.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def warm_up() -> None:
    """Run a job of no meaning: a fork's first job takes twice as long, as it copies the memory that it touches."""
    run({"code": "def main(n): return n", "inputs": {"n": 1}, "context": {}}, 1000)


@functools.lru_cache(maxsize=64)
def _compiled(code: str) -> types.CodeType:
    return compile(code, CODE_NAME, "exec", dont_inherit=True)


def run(payload: dict[str, Any], output_bytes: int) -> dict[str, Any]:
    """The answer: what `main` returned, or what went wrong and where in the user's code."""
    code = payload["code"]
    try:
        compiled = _compiled(code)
    except SyntaxError as error:
        return failure("code_invalid", f"line {error.lineno}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return failure("code_invalid", f"the code cannot be compiled: {error or type(error).__name__}")
    # Makes the source lines appear in tracebacks.
    linecache.cache[CODE_NAME] = (len(code), None, code.splitlines(keepends=True), CODE_NAME)
    namespace = _namespace(payload["context"])
    if "packages" in payload:
        sys.path.insert(0, payload["packages"])
    try:
        exec(compiled, namespace)  # noqa: S102 - the purpose of this process
        if callable(main := namespace.get("main")):
            result = _call(main, payload["inputs"])
        elif "result" in namespace:
            result = namespace["result"]
        else:
            return failure("code_invalid", "the code must define a function named main, or set result")
        return success(sanitise(result, max_bytes=output_bytes))
    except OutputInvalid as error:
        return failure(error.code, str(error))
    except SystemExit as error:
        return failure("exited", f"the code called exit ({error.code})")
    except MemoryError as error:
        return failure("out_of_memory", _describe_bound(), traceback=_user_traceback(error))
    except BaseException as error:
        return failure("python_error", _describe(error), traceback=_user_traceback(error))


def _namespace(context: dict[str, Any]) -> dict[str, Any]:
    """One namespace, so that helpers and imports at the top level are visible inside `main`."""
    return {
        "__name__": "step",
        "__builtins__": __builtins__,
        "context": context,
        "datetime": datetime,
        "json": json,
        "logger": _logger(),
        "os": os,
        "uuid": uuid,
    }


def _logger() -> logging.Logger:
    logger = logging.getLogger("step")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LevelFormatter())
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    return logger


def _call(main: Callable[..., Any], inputs: dict[str, Any]) -> Any:
    positional, named = _bind(main, inputs)
    result = main(*positional, **named)
    if inspect.isawaitable(result):
        return asyncio.run(_wait_for(result))
    return result


async def _wait_for(awaitable: Any) -> Any:
    return await awaitable


def _bind(main: Callable[..., Any], inputs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments for `main`: the inputs its signature names, or all of them as one map.

    Raises: `TypeError` naming the input that is missing.
    """
    parameters = list(inspect.signature(main).parameters.values())
    if _takes_whole_map(parameters, inputs):
        return [inputs], {}
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            taken = {p.name for p in parameters if p.kind is not inspect.Parameter.POSITIONAL_ONLY} - {parameter.name}
            named |= {name: value for name, value in inputs.items() if name not in taken}
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            continue
        elif parameter.name in inputs:
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                positional.append(inputs[parameter.name])
            else:
                named[parameter.name] = inputs[parameter.name]
        elif parameter.default is inspect.Parameter.empty:
            raise TypeError(f"main() is missing the input {parameter.name!r}")
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            # Those behind it keep their places.
            positional.append(parameter.default)
    return positional, named


def _takes_whole_map(parameters: list[inspect.Parameter], inputs: dict[str, Any]) -> bool:
    """`main(input_data)`: one required positional parameter that no input is called like."""
    if len(parameters) != 1:
        return False
    (only,) = parameters
    accepts = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return only.kind in accepts and only.default is inspect.Parameter.empty and only.name not in inputs


def _describe_bound() -> str:
    bound = resource.getrlimit(resource.RLIMIT_AS)[0]
    return f"MemoryError: the code wanted more memory than the {bound >> 20} MiB that a step may have"


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:4000]
    except BaseException:
        return f"{type(error).__name__}: (its text cannot be read)"


def _user_traceback(error: BaseException) -> str:
    """The traceback without frames of the runner, so that line numbers are those of the step's code."""
    frames = [(f, line) for f, line in traceback.walk_tb(error.__traceback__) if f.f_code.co_filename == CODE_NAME]
    summary = traceback.StackSummary.extract(iter(frames), limit=-20)
    if not summary:
        return ""
    text = "Traceback (most recent call last):\n" + "".join(summary.format()) + _describe(error)
    return text[-TRACEBACK_MAX_CHARACTERS:]
