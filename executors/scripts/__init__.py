"""Fetching the code of a python step from where it is kept: a folder of the worker, a web server, S3, Google Cloud.

Runs in the worker, as the child has neither network rights nor credentials. Knows places; nothing of how code is run.
"""

from executors.scripts.fetching import Scripts

__all__ = ["Scripts"]
