"""
What may be done to a periodic job by hand: by whom, and why it was refused.

Each act runs in the transaction of its entry in the history, and goes through `periodic.slots`:
what it fires are slots like all others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks_app.admin.slot_ranges import WANTED, Range
from tasks_app.exceptions import ConfigurationError, InvalidArgument
from tasks_app.periodic import slots

RUN = "tasks_app.enqueue_outcome"
PAUSE = "tasks_app.pause_schedule"
BACKFILL = "tasks_app.backfill_schedule"

#: What says that an entry's own row is at fault.
FAULTS = (ConfigurationError, InvalidArgument, TypeError)

Form = Mapping[str, str]


class Refused(Exception):
    """The act was not done; the text says why."""


@dataclass(frozen=True, slots=True)
class ScheduleAct:
    """
    One act.

    Attributes:
        permission: Who may.
        do: Does it to an entry, for a user's name, with a form; returns what was done.
    """

    permission: str
    do: Callable[[Any, str, Form], str]


def run_now(entry: Any, by: str, form: Form) -> str:
    """Fire a slot at the present moment."""
    try:
        slot = slots.run_now(entry, by)
    except FAULTS as error:
        raise Refused(f"The job {entry.name} was not run: {error}") from error
    return f"The job {entry.name} runs now, as outcome {slot.outcome_id}."


def pause(entry: Any, by: str, form: Form) -> str:
    """Let slots pass undecided from now on."""
    if not _switched(entry, is_on=False):
        raise Refused(f"The job {entry.name} was not paused: it is paused already.")
    slots.pause(entry, by)
    return f"The job {entry.name} is paused. What runs already goes on."


def resume(entry: Any, by: str, form: Form) -> str:
    """Count slots again from now on."""
    if not _switched(entry, is_on=True):
        raise Refused(f"The job {entry.name} was not resumed: it is not paused.")
    try:
        slots.resume(entry, by)
    except FAULTS as error:
        raise Refused(f"The job {entry.name} was not resumed: {error}") from error
    return f"The job {entry.name} is due again."


def backfill(entry: Any, by: str, form: Form) -> str:
    """Fire the slots of a range that have enqueued nothing so far."""
    wanted = Range.asked(entry, form)
    if wanted is None or wanted.times is None:
        why = wanted.refusal if wanted else WANTED
        raise Refused(f"The job {entry.name} was not backfilled: {why}")
    try:
        count = slots.backfill(entry, *wanted.times, by)
    except (*FAULTS, ValueError) as error:
        raise Refused(f"The job {entry.name} was not backfilled: {error}") from error
    if not count:
        raise Refused(
            f"The job {entry.name} was not backfilled: no slot of that range is left to fire."
        )
    what = "1 slot" if count == 1 else f"{count:,} slots"
    return f"Backfilled {what} of the job {entry.name}, {wanted}."


def _switched(entry: Any, *, is_on: bool) -> bool:
    """Switch an entry, unless somebody has: of two people one does."""
    rows = type(entry).objects.filter(pk=entry.pk, enabled=not is_on)
    return bool(rows.update(enabled=is_on))


ACTS = {
    "run_now": ScheduleAct(RUN, run_now),
    "pause": ScheduleAct(PAUSE, pause),
    "resume": ScheduleAct(PAUSE, resume),
    "backfill": ScheduleAct(BACKFILL, backfill),
}
