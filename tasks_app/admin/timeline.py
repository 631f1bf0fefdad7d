"""
Times as lengths on a screen: what an outcome did from moment to moment, on one axis for all.

An axis leaves out long times in which nothing ran, such as the days before a replay: there it is
broken, and says for how long. Places and lengths are percentages, as SVG takes them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from tasks_app.admin.texts import DAY, HOUR, MINUTE, in_words
from tasks_app.models import Attempt, Outcome
from tasks_app.states import AttemptState, State

#: Lengths between two marks of an axis, in seconds: what people count in.
STEPS = (
    *(digit * 10.0**power for power in range(-3, 1) for digit in (1, 2, 5)),
    *(10.0, 15.0, 30.0),
    *(minutes * MINUTE for minutes in (1.0, 2.0, 5.0, 10.0, 15.0, 30.0)),
    *(hours * HOUR for hours in (1.0, 2.0, 3.0, 6.0, 12.0)),
    *(days * DAY for days in (1.0, 2.0, 7.0, 14.0, 30.0, 90.0, 365.0)),
)

#: Percent of the axis between two marks at least, and what a left-out time takes, one and all.
APART, BREAK, BREAKS = 13.0, 6.0, 36.0

#: Percent between two names at least.
CLEAR = 8.0

#: Seconds below which nothing is left out.
SHORTEST_BREAK = 1.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """
    What happened to an outcome for some time.

    Attributes:
        kind: `delay` until it was due, `queue` until a worker took it, or `run`.
        state: How the run ended, or `running`; empty for waits.
        attempt: The ended run; None for waits and for a run in progress.
        number: Of the run; 0 for waits.
    """

    kind: str
    began: datetime
    ended: datetime
    state: str = ""
    number: int = 0
    attempt: Attempt | None = None


def stretches(outcome: Outcome, attempts: Iterable[Attempt], now: datetime) -> Iterator[Stretch]:
    """Yield all that happened to an outcome, in order, without a gap."""
    since = outcome.created_at
    for attempt in attempts:
        yield from _waits(since, attempt.due_at, attempt.started_at)
        since = max(attempt.started_at, attempt.finished_at)
        yield Stretch("run", attempt.started_at, since, attempt.state, attempt.number, attempt)
    if outcome.state == State.RUNNING and outcome.claimed_at is not None:
        yield from _waits(since, outcome.run_at, outcome.claimed_at)
        end = max(now, outcome.claimed_at)
        yield Stretch("run", outcome.claimed_at, end, State.RUNNING, outcome.attempt)
    elif outcome.state == State.PENDING:
        yield from _waits(since, outcome.run_at, now)
    elif outcome.finish_fence is None and outcome.finished_at is not None:
        yield from _waits(since, outcome.run_at, outcome.finished_at)


def _waits(since: datetime, due: datetime | None, until: datetime) -> Iterator[Stretch]:
    """Yield the wait for the due time and the wait for a worker, where there was any."""
    turn = since if due is None else min(max(due, since), until)
    if since < turn:
        yield Stretch("delay", since, turn)
    if turn < until:
        yield Stretch("queue", turn, until)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an axis: seconds since its start, and percent of its length."""

    began: float
    ended: float
    left: float
    right: float
    is_break: bool

    def place(self, moment: float) -> float:
        """Return a moment's place in percent."""
        length = self.ended - self.began
        share = (moment - self.began) / length if length else 0.0
        return self.left + share * (self.right - self.left)


@dataclass(frozen=True, slots=True)
class Mark:
    """A time that an axis names, and whether the name stands for all that is left out there."""

    place: float
    text: str
    is_break: bool = False

    def is_clear_of(self, right: "Mark") -> bool:
        """Tell whether both can be read."""
        return self.is_break or right.place - self.place >= CLEAR


class Axis:
    """
    The time that some stretches took, as a line.

    Args:
        busy: Beginnings and ends of what keeps its length.
        moments: Other times that are on the axis.
    """

    def __init__(
        self, busy: Iterable[tuple[datetime, datetime]], moments: Iterable[datetime] = ()
    ) -> None:
        spans = sorted([*busy, *((moment, moment) for moment in moments)])
        self.start = spans[0][0]
        self.end = max(end for _, end in spans)
        seconds = [(self._seconds(begin), self._seconds(end)) for begin, end in spans]
        self.pieces = _pieces(_islands(seconds))

    def place(self, moment: datetime) -> float:
        """Return a moment's place on the axis, in percent."""
        seconds = self._seconds(moment)
        for piece in self.pieces:
            if seconds <= piece.ended:
                return min(max(piece.place(seconds), 0.0), 100.0)
        return 100.0

    def marks(self) -> list[Mark]:
        """Return the times to be written beside the axis, none too close to another."""
        found: list[Mark] = []
        for piece in self.pieces:
            if piece.is_break:
                middle = (piece.left + piece.right) / 2
                found.append(Mark(middle, in_words(piece.ended - piece.began), is_break=True))
            else:
                found += _marks(piece)
        # The last one before a break may stand too close to it.
        return [mark for mark, right in pairwise(found) if mark.is_clear_of(right)] + found[-1:]

    def _seconds(self, moment: datetime) -> float:
        return (moment - self.start).total_seconds()


def _islands(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join spans that touch."""
    joined: list[tuple[float, float]] = []
    for begin, end in spans:
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _pieces(islands: Sequence[tuple[float, float]]) -> list[Piece]:
    """Lay islands side by side; what lies between them keeps its length unless it is long."""
    busy = sum(end - begin for begin, end in islands)
    least = max(busy, SHORTEST_BREAK) if busy else float("inf")
    kept = [islands[0]]
    for (_, end), (begin, until) in pairwise(islands):
        if begin - end > least:
            kept.append((begin, until))
        else:
            kept[-1] = (kept[-1][0], until)
    count = len(kept) - 1
    gap = min(BREAK, BREAKS / count) if count else 0.0
    whole = sum(end - begin for begin, end in kept)
    scale = (100 - gap * count) / whole if whole else 0.0
    pieces: list[Piece] = []
    left = 0.0
    for begin, end in kept:
        if pieces:
            pieces.append(Piece(pieces[-1].ended, begin, left, left + gap, is_break=True))
            left += gap
        pieces.append(Piece(begin, end, left, left + (end - begin) * scale, is_break=False))
        left = pieces[-1].right
    return pieces


def _marks(piece: Piece) -> Iterator[Mark]:
    """Yield the marks of an unbroken part, counted from its own beginning."""
    length = piece.ended - piece.began
    most = (piece.right - piece.left) / APART
    if most < 1:
        return
    step = next((step for step in STEPS if length / step <= most), STEPS[-1])
    sign = "+" if piece.began else ""
    for number in range(0 if not piece.began else 1, int(length / step) + 1):
        yield Mark(piece.place(piece.began + number * step), sign + in_words(number * step))


def ended_badly(state: str) -> bool:
    """Tell whether a run's end is one that people look for."""
    return state in {AttemptState.FAILED, AttemptState.LOST, AttemptState.RETRIED}
