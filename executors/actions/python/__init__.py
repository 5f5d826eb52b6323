"""The `python` kind: runs a step's Python code in a confined child process."""

from executors.actions.python.arguments import PythonArguments, Script
from executors.actions.python.kind import FetchScript, PythonAction
from executors.actions.python.packages import Packages

__all__ = ["FetchScript", "Packages", "PythonAction", "PythonArguments", "Script"]
