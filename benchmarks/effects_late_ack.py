"""Contestant: plain Celery that acknowledges when a task has ended, and not when it was lost."""

from benchmarks.effects_early_ack import app, enqueue

app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)

__all__ = ["app", "enqueue"]
