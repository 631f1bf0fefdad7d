"""
Check-ins of Sentry's cron monitors, for every schedule whose task has outcomes.

Beat opens one as it enqueues a slot, under an id that lies in the row; whoever writes the slot's
final state closes it: a worker, or another that rescues it. Retries keep it open, so each slot ends
once, also when its worker died.
"""

from collections.abc import MutableMapping
from typing import Any

import sentry_sdk
from sentry_sdk.crons import capture_checkin
from sentry_sdk.utils import match_regex_list

from tasks_app import context, signals
from tasks_app.integrations.sentry import slots
from tasks_app.integrations.sentry.monitors import monitor_config
from tasks_app.integrations.sentry.slots import Slot
from tasks_app.models import Outcome

MONITOR, CHECK_IN = "sentry-monitor", "sentry-check-in"


def connect() -> None:
    """Tell of slots from now on."""
    context.injectors.append(_inject)
    slots.on_enqueued.append(_open)
    signals.succeeded.connect(_close_well, dispatch_uid=__name__)
    for ending in (signals.failed, signals.cancelled, signals.expired):
        ending.connect(_close_badly, dispatch_uid=__name__)


def _is_watched(slot: Slot) -> bool:
    if not sentry_sdk.is_initialized():
        return False
    integration = sentry_sdk.get_client().get_integration("celery")
    return not match_regex_list(slot.name, getattr(integration, "exclude_beat_tasks", None))


def _inject(headers: MutableMapping[str, str]) -> None:
    slot = slots.current()
    if slot is not None and _is_watched(slot):
        headers.update({MONITOR: slot.name, CHECK_IN: slot.check_in_id})


def _open(slot: Slot) -> None:
    if _is_watched(slot) and not slot.is_open:
        capture_checkin(
            monitor_slug=slot.name,
            check_in_id=slot.check_in_id,
            status="in_progress",
            monitor_config=monitor_config(slot),  # type: ignore[arg-type]  # a mapping of that shape
        )


def _close_well(outcome: Outcome, **kwargs: Any) -> None:
    _close(outcome, "ok")


def _close_badly(outcome: Outcome, **kwargs: Any) -> None:
    _close(outcome, "error")


def _close(outcome: Outcome, status: str) -> None:
    if CHECK_IN not in outcome.trace_context or not sentry_sdk.is_initialized():
        return
    headers = context.trace_headers(outcome.trace_context)
    capture_checkin(monitor_slug=headers[MONITOR], check_in_id=headers[CHECK_IN], status=status)
