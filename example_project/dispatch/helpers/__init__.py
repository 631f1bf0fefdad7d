"""The desk's work as plain functions, one module for each kind.

None of them knows a queue: each can be called from a shell or a test. What runs when, and with
which retries, stands in ``dispatch/tasks.py``.
"""
