"""
The waterfall of a request: its own bar, and below it a line for each outcome, on one time axis.

Everything that a line shows is a word, a place in percent or a class: the template writes SVG of
it, which needs neither style nor script.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from tasks_app.addresses import flower_page
from tasks_app.admin.lineages import Kin
from tasks_app.admin.texts import LINE, SIGNS, in_words, shortened
from tasks_app.admin.timeline import Axis, Stretch, ended_badly, stretches
from tasks_app.models import Attempt, Outcome, WebRequest
from tasks_app.states import FINAL, AttemptState, State

#: How the end of a run is shown beside its word.
RUN_SIGNS: Mapping[str, str] = {
    AttemptState.SUCCEEDED: "✓",
    AttemptState.FAILED: "✗",
    AttemptState.RETRIED: "↻",
    AttemptState.SNOOZED: "☾",
    AttemptState.RELEASED: "⇠",
    AttemptState.CANCELLED: "⊘",
    AttemptState.LOST: "☠",
    State.RUNNING: "▶",
}

#: How an outcome came from another, as a sign beside the word.
RELATION_SIGNS = {
    "child": "└",
    "next in chain": "→",
    "chord callback": "⇥",
    "callback": "↪",
    "error callback": "↪",
    "replay": "⟳",
}

#: What a wait is called, by what came before it.
WAITS = {
    ("delay", AttemptState.LOST): "held back after the rescue",
    ("delay", AttemptState.RETRIED): "held back before the retry",
    ("delay", AttemptState.SNOOZED): "snoozed",
    ("delay", ""): "not due yet",
    ("queue", ""): "for a worker",
}

#: Deepest level that is indented further; words tell the rest.
DEEPEST = 6

#: Percent of the axis that a number and a sign need inside a bar, a sign alone, and one beside it.
BOTH, INSIDE, BESIDE = 8.0, 5.0, 3.5


#: Upper edge and height of a bar in pixels, and what fills it where its class does not.
SHAPES = {
    "delay": (11, 4, "none"),
    "rescue": (11, 4, "none"),
    "queue": (8, 10, "url(#tasks-hatch)"),
    AttemptState.LOST: (4, 18, "url(#tasks-lost)"),
}
RUN_SHAPE = (4, 18, "none")


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch as a rectangle: percent, pixels, class, and words for those who point at it."""

    x: str
    width: str
    look: str
    title: str

    @property
    def shape(self) -> tuple[int, int, str]:
        return SHAPES.get(self.look, RUN_SHAPE)


@dataclass(frozen=True, slots=True)
class Note:
    """A run's number and sign, in its bar, or beside one that is too short for it."""

    x: str
    look: str
    text: str
    is_beside: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A run, or the wait that goes on, as a row of the table."""

    what: str
    waited: str
    sign: str = ""
    state: str = ""
    after: str = ""
    length: str = ""
    began: str = ""
    at: str = ""
    worker: str = ""
    error: str = ""
    sentry_event_id: str = ""
    log: str = ""
    log_id: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """An outcome with its bars."""

    kin: Kin
    indent: int
    relation_sign: str
    sign: str
    summary: str
    bars: Sequence[Bar]
    notes: Sequence[Note]
    steps: Sequence[Step]
    flower: str | None

    @property
    def outcome(self) -> Outcome:
        return self.kin.outcome


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the axis as SVG takes it."""

    x: str
    anchor: str
    text: str
    is_break: bool


@dataclass(frozen=True, slots=True)
class Waterfall:
    """All that the page shows of a request."""

    started_at: datetime
    length: str
    ticks: Sequence[Tick]
    breaks: Sequence[tuple[str, str]]
    web: Bar | None
    lines: Sequence[Line]


def waterfall(
    web: WebRequest | None,
    kin: Sequence[Kin],
    attempts: Mapping[Any, Sequence[Attempt]],
    now: datetime,
) -> Waterfall | None:
    """Return what is known of a request, or None where that is nothing."""
    told = [
        (each, list(stretches(each.outcome, attempts.get(each.outcome.pk, ()), now)))
        for each in kin
    ]
    everything = [stretch for _, found in told for stretch in found]
    busy = [(each.began, each.ended) for each in everything if each.kind != "delay"]
    moments = [each.ended for each in everything] + [each.outcome.created_at for each in kin]
    if web is not None:
        busy.append((web.started_at, max(web.started_at, web.finished_at)))
    if not busy and not moments:
        return None
    axis = Axis(busy, moments)
    return Waterfall(
        started_at=axis.start,
        length=in_words((axis.end - axis.start).total_seconds()),
        ticks=list(_ticks(axis)),
        breaks=[
            (_percent(piece.left), _percent(piece.right - piece.left))
            for piece in axis.pieces
            if piece.is_break
        ],
        web=None if web is None else _web_bar(web, axis),
        lines=[_line(each, found, axis) for each, found in told],
    )


def at(moment: datetime, since: datetime | None = None) -> str:
    """Return a moment with its milliseconds, in the site's zone; the time alone on the same day."""
    local = timezone.localtime(moment)
    if since is not None and timezone.localtime(since).date() == local.date():
        return local.time().isoformat("milliseconds")
    return local.replace(tzinfo=None).isoformat(" ", "milliseconds")


def _web_bar(web: WebRequest, axis: Axis) -> Bar:
    length = in_words(max((web.finished_at - web.started_at).total_seconds(), 0))
    left, right = axis.place(web.started_at), axis.place(web.finished_at)
    title = f"{web.method} {web.route or 'of no route'}: {length}"
    return Bar(_percent(left), _percent(max(right - left, 0)), "web", title)


def _line(kin: Kin, found: Sequence[Stretch], axis: Axis) -> Line:
    outcome = kin.outcome
    return Line(
        kin=kin,
        indent=min(kin.level, DEEPEST),
        relation_sign=RELATION_SIGNS.get(kin.relation, ""),
        sign=SIGNS[State(outcome.state)],
        summary=_summary(outcome, found),
        bars=list(_bars(found, axis)),
        notes=list(_notes(found, axis)),
        steps=list(_steps(outcome, found, axis)),
        flower=flower_page(outcome.pk),
    )


def _summary(outcome: Outcome, found: Iterable[Stretch]) -> str:
    """Return how long it waited and ran, and what went wrong on the way."""
    parts = []
    runs = [stretch for stretch in found if stretch.kind == "run"]
    for word, kinds in (("ran", ("run",)), ("waited", ("delay", "queue"))):
        spans = [_seconds(each) for each in found if each.kind in kinds]
        if spans:
            parts.append(f"{word} {in_words(sum(spans))}")
    if len(runs) > 1:
        parts.append(f"{len(runs)} runs")
    if lost := sum(run.state == AttemptState.LOST for run in runs):
        parts.append(f"{lost} lost")
    if outcome.group_index is not None:
        parts.append(f"member {outcome.group_index + 1}")
    if outcome.state not in FINAL and outcome.progress_done is not None:
        total = "" if outcome.progress_total is None else f" of {outcome.progress_total:g}"
        parts.append(f"at {outcome.progress_done:g}{total}")
    return " · ".join(parts)


def _bars(found: Iterable[Stretch], axis: Axis) -> Iterator[Bar]:
    for previous, each in _with_previous(found):
        left, right = axis.place(each.began), axis.place(each.ended)
        is_rescue = (each.kind, previous) == ("delay", AttemptState.LOST)
        look = "rescue" if is_rescue else each.state or each.kind
        yield Bar(_percent(left), _percent(right - left), look, _title(previous, each))


def _notes(found: Iterable[Stretch], axis: Axis) -> Iterator[Note]:
    """Yield what is written into bars, and beside those that people look for."""
    runs = [each for each in found if each.kind == "run"]
    places = [(axis.place(each.began), axis.place(each.ended)) for each in runs]
    for number, (each, (left, right)) in enumerate(zip(runs, places, strict=True), 1):
        following = places[number][0] if number < len(places) else 100.0
        width, sign = right - left, RUN_SIGNS.get(each.state, "")
        if width >= INSIDE:
            text = f"{each.number} {sign}" if width >= BOTH else sign
            yield Note(_percent(left + width / 2), each.state, text, is_beside=False)
        elif ended_badly(each.state) and following - right >= BESIDE:
            yield Note(_percent(right), each.state, sign, is_beside=True)


def _with_previous(found: Iterable[Stretch]) -> Iterator[tuple[str, Stretch]]:
    """Yield each stretch with the end of the run before it."""
    state = ""
    for each in found:
        yield state, each
        state = each.state or state


def _what(previous: str, stretch: Stretch) -> str:
    if stretch.kind == "run":
        return f"run {stretch.number}"
    return WAITS.get((stretch.kind, previous)) or WAITS[stretch.kind, ""]


def _title(previous: str, stretch: Stretch) -> str:
    length = in_words(_seconds(stretch))
    words = [f"{_what(previous, stretch)}: {stretch.state or 'wait'}, {length}"]
    if stretch.attempt is not None and stretch.attempt.error:
        words.append(_one_line(stretch.attempt.error))
    return " - ".join(words)


def _steps(outcome: Outcome, found: Iterable[Stretch], axis: Axis) -> Iterator[Step]:
    """Yield the runs, each with the waits before it, and the wait that no run has ended."""
    waits: list[str] = []
    for previous, each in _with_previous(found):
        if each.kind == "run":
            yield _step(outcome, each, ", ".join(waits), axis)
            waits = []
        else:
            waits.append(f"{in_words(_seconds(each))} {_what(previous, each)}")
    if waits:
        what = "ended without a run" if outcome.state in FINAL else "waits"
        yield Step(what, ", ".join(waits))


def _step(outcome: Outcome, run: Stretch, waited: str, axis: Axis) -> Step:
    attempt = run.attempt
    return Step(
        what=f"run {run.number}",
        waited=waited,
        sign=RUN_SIGNS.get(run.state, ""),
        state=run.state,
        after=in_words((run.began - axis.start).total_seconds()),
        length=in_words(_seconds(run)),
        began=run.began.isoformat(),
        at=at(run.began, axis.start),
        worker=outcome.worker if attempt is None else attempt.worker,
        error="" if attempt is None else _one_line(attempt.error),
        sentry_event_id="" if attempt is None else attempt.sentry_event_id,
        log=getattr(attempt, "kept_log", ""),
        log_id="" if attempt is None else f"log-{attempt.pk}",
    )


def _seconds(stretch: Stretch) -> float:
    return (stretch.ended - stretch.began).total_seconds()


def _one_line(error: str) -> str:
    return shortened(error.partition("\n")[0], LINE)


def _ticks(axis: Axis) -> Iterator[Tick]:
    last = 94
    for mark in axis.marks():
        anchor = "start" if mark.place <= 0 else "end" if mark.place > last else "middle"
        yield Tick(_percent(mark.place), anchor, mark.text, mark.is_break)


def _percent(number: float) -> str:
    return f"{number:.3f}%"
