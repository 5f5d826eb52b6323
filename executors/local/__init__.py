"""Playbooks without a server: the planner's engine in memory, the real action kinds in this process.

Knows no database, no queue and no broker. It needs Django's settings (`django.setup()`), for the action kinds' bounds.
"""

from executors.local.broker import Broker
from executors.local.files import LocalCatalog, read_credentials
from executors.local.run import LocalRun

__all__ = ["Broker", "LocalCatalog", "LocalRun", "read_credentials"]
