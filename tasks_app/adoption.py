"""
Adoption: calls that did not come through `enqueue` get their row before they run.

Another service's `send_task`, Flower's "apply", or a message from before the app was installed
carries its arguments itself. The row is written first, under the message's own id, so a second
copy of the message finds it.
"""

from typing import Any

from django.db import IntegrityError, transaction

from tasks_app import context
from tasks_app.broker import DOORBELL
from tasks_app.calls import Call, CallOptions
from tasks_app.canvas import kept_canvas
from tasks_app.conf import conf
from tasks_app.crash_points import crash_point
from tasks_app.enqueue import enqueue
from tasks_app.exceptions import IdempotencyConflict, InvalidArgument
from tasks_app.options import TaskOptions


def is_foreign(request: Any) -> bool:
    """Tell whether a message was published by something else than a relay of this app."""
    return getattr(request, DOORBELL, None) is None and DOORBELL not in (request.headers or {})


def adopt(name: str, options: TaskOptions, request: Any) -> None:
    """
    Write the row of a foreign message; does nothing if another copy has written it.

    Raises:
        InvalidArgument: its arguments are not what a row can hold; the message fails with it.
    """
    canvas_options = {
        "link": request.callbacks,
        "link_error": request.errbacks,
        "chain": request.chain,
        "chord": request.chord,
    }
    queue = (request.delivery_info or {}).get("routing_key")
    call = Call(
        name,
        options,
        tuple(request.args or ()),
        dict(request.kwargs or {}),
        CallOptions(
            task_id=request.id,
            queue=queue,
            root_id=request.root_id,
            parent_id=request.parent_id,
            group_id=request.group,
            group_index=request.group_index,
            kept=kept_canvas(canvas_options),
            # Its message is here already, and is about to claim it.
            wakes=False,
        ),
    )
    try:
        # Whatever ids the message brought, and other packages believed, were anybody's choice.
        with context.own_request_id(), transaction.atomic(using=conf.DATABASE):
            options.signature.bind(*call.args, **call.kwargs)
            enqueue(call)
        crash_point("adopt.after_insert")
    except (IdempotencyConflict, IntegrityError):
        return
    except TypeError as error:
        raise InvalidArgument(str(error)) from error
