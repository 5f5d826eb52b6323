"""Child processes that run what playbook authors wrote, and the JSON rules for what comes out of them.

Knows nothing of action kinds, queues or Django; everything here imports in a bare interpreter.
"""
