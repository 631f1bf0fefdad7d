"""
Celery's own tasks: they run only when a process of this project has sent them.

`celery.map` and its like call any task's function with any arguments, past its row. So whatever
publishes one here signs the message, and workers refuse those without a seal. A message that
names one among its callbacks is treated alike.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from celery import signals

from tasks_app.seals import Refused, read_seal, seal
from tasks_app.shapes import CANVAS, names_tasks

#: Header that holds the seal.
HEADER = "tasks_app_seal"

#: Celery's own tasks, all of them; canvas primitives that are no messages share the prefix.
PREFIX = "celery."

#: The primitives that a worker takes apart itself: what they hold is looked at instead.
TAKEN_APART = frozenset({"celery.group", "celery.chain", "celery.chord"})

#: How long such a message may wait in the broker, or for its ETA.
AGE = timedelta(days=7)

#: Names what signs among Celery's receivers.
RECEIVER = "tasks_app.sealed_tasks"


def connect() -> None:
    """Sign what this process publishes from now on."""
    signals.before_task_publish.connect(_sign, dispatch_uid=RECEIVER)


def _sign(sender: Any, headers: dict[str, Any], body: Any, **kwargs: Any) -> None:
    if needs_seal(str(sender), body):
        task_id = headers.get("id") or body["id"]
        headers[HEADER] = seal("task", [str(sender), task_id, body])


def check(headers: Mapping[str, Any], body: Any) -> None:
    """
    Return if a message of a known shape may run.

    Raises:
        Refused: it needs a seal and has none, or another message's.
    """
    fields = {**(body if isinstance(body, dict) else {}), **headers}
    if needs_seal(fields["task"], body):
        try:
            read_seal("task", [fields["task"], fields["id"], body], headers.get(HEADER), AGE)
        except Refused as error:
            raise Refused(f"it names a task of Celery's own, and {error}") from None


def needs_seal(name: str, body: Any) -> bool:
    """Tell whether a message would run one of Celery's own tasks, now or as a callback."""
    if name.startswith(PREFIX):
        return True
    embedded = body if isinstance(body, dict) else body[2]
    canvas = [part for place in CANVAS if (part := (embedded or {}).get(place))]
    return bool(canvas) and any(
        named.startswith(PREFIX) and named not in TAKEN_APART for named in names_tasks(canvas)
    )
