"""Enqueueing: one by one, in a transaction with a row of the caller's, and many at once."""

from collections.abc import Sequence

from benchmarks.course import Course, Reading
from benchmarks.figures import Sheet
from benchmarks.lineup import ENQUEUE, Contestant

SINGLE = "enqueue, autocommit"
IN_TRANSACTION = "enqueue, in a transaction that writes a row"
BULK = "enqueue {:,} at once"


def run(course: Course, sheet: Sheet, rounds: int) -> None:
    """Let all contestants enqueue while no worker runs."""
    course.run(sheet, rounds, ENQUEUE, enqueue)


def enqueue(course: Course, contestant: Contestant) -> Sequence[Reading]:
    """Enqueue in each way; tell the speeds."""
    sizes = course.sizes
    bulks = sizes.bulks if contestant.has_bulk else [sizes.loop]
    course.arena.begin(contestant)
    single, in_transaction, *at_once = course.arena.turn(
        contestant,
        f"single:{sizes.singles}",
        f"in_transactions:{sizes.singles}",
        *[f"bulk:{count}" for count in bulks],
    )
    if not contestant.has_bulk:
        at_once *= len(sizes.bulks)
    return [
        Reading(SINGLE, single, "calls/s", "higher"),
        Reading(IN_TRANSACTION, in_transaction, "transactions/s", "higher"),
        *[
            Reading(BULK.format(count), speed, "calls/s", "higher")
            for count, speed in zip(sizes.bulks, at_once, strict=True)
        ],
    ]
