"""
Plain Celery tasks on a schedule: an outcome of `tasks_app.forward` publishes their message.

The slot's decision needs no broker; the message leaves from a worker, at least once: a worker that
dies between the broker's word and its own success publishes again, under the same id.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from celery import current_app

from tasks_app import current
from tasks_app.declare import task
from tasks_app.retry import RetryPolicy

#: A broker that is away for days loses nothing; the outcome's own expiry ends it earlier.
PATIENT = RetryPolicy(max_attempts=1_000, initial=1, maximum=60)


@task(name="tasks_app.forward", retry=PATIENT, atomic=False)
def forward(name: str, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any]) -> str:
    """
    Publish the message of a plain task; return its id, the same in each attempt.

    Args:
        name: The task's name, registered in this process or not.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        options: What `apply_async` takes: `queue, priority, expires, headers` and the like.
    """
    expires: datetime | None = options.pop("expires", None)
    message_id = str(uuid5(_own_id(), name))
    given = {**options, "expires": expires, "task_id": message_id}
    registered = current_app.tasks.get(name)
    if registered is None:
        current_app.send_task(name, args, kwargs, **given)
    else:
        registered.apply_async(tuple(args), kwargs, **given)
    return message_id


def _own_id() -> UUID:
    own = current.outcome_id
    if own is None:
        msg = "tasks_app.forward publishes for an outcome: enqueue it."
        raise RuntimeError(msg)
    return own
