"""The judge: holds what happened against what may happen.

`check` is a pure function of four records: the database's events (`log`), the clients' calls
(`client`), the effects in the database and the calls of a provider outside. It believes none of
them alone: each rule compares what the code under test did with what somebody else saw.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Protocol
from uuid import UUID

from tasks_app.states import FINAL, TRANSITIONS, State
from tests.history.client import FAIL, INFO, OK, Call
from tests.history.log import OutcomeEvent

#: The moves of `states.TRANSITIONS`.
EDGES = {(act.source, target) for act in TRANSITIONS for target in act.targets}

Histories = Mapping[UUID, Sequence[OutcomeEvent]]


class Rule(StrEnum):
    """What every history keeps."""

    EDGES = "a row moves along the table of transitions only"
    ORDER = "fence and attempt do not fall, and a final state is the last one"
    ROWS = "each promised row is there, and each row was asked for"
    EFFECTS = "a success has its one effect, everything else has none"
    FENCES = "one run at a time, and only the run that holds the row ends it"
    KEYS = "one outcome for each key"
    READS = "what clients see does not go back"
    OUTSIDE = "a success was told outside, always under the same key"
    ENDS = "each outcome ends"


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a history broke."""

    rule: Rule
    outcome_id: UUID | None
    text: str

    def __str__(self) -> str:
        return f"{self.rule.name}: {self.outcome_id}: {self.text}"


class HasFence(Protocol):
    """An effect in the database: which outcome had it, and in which run."""

    outcome_id: UUID | None
    fence: int | None


@dataclass(frozen=True, slots=True)
class OutsideCall:
    """One call of a provider: for which outcome, under which key."""

    outcome_id: UUID
    key: str | None


def check(  # noqa: PLR0913 - four records, and what may be said about each
    events: Iterable[OutcomeEvent],
    calls: Iterable[Call] = (),
    effects: Iterable[HasFence] = (),
    external: Iterable[OutsideCall] = (),
    *,
    db_tasks: Collection[str] | None = None,
    external_tasks: Collection[str] = (),
    healed: bool = False,
) -> list[Violation]:
    """
    Return every rule that a history breaks; the best is none.

    Args:
        events: The database's log of all outcomes, from before the first one.
        calls: Calls of all clients. Where there are none, rows need not have been asked for.
        effects: Committed effects; those without an outcome are nobody's.
        external: Calls that a provider was sent.
        db_tasks: Names of tasks with one effect per success, others have none; None: all have.
        external_tasks: Names of tasks that call a provider before they succeed.
        healed: All faults are over and everything had its time: no outcome may still wait.
    """
    histories = _by_outcome(events)
    calls = list(calls)
    return [
        *_check_rows(histories, calls),
        *_check_edges(histories),
        *_check_order(histories),
        *_check_fences(histories),
        *_check_effects(histories, list(effects), db_tasks),
        *_check_keys(histories, calls),
        *_check_reads(histories, calls),
        *_check_outside(histories, list(external), external_tasks),
        *(_check_ends(histories) if healed else ()),
    ]


def _by_outcome(events: Iterable[OutcomeEvent]) -> Histories:
    histories: dict[UUID, list[OutcomeEvent]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event.seq):
        histories[event.outcome_id].append(event)
    return histories


def _each(histories: Histories) -> Iterator[OutcomeEvent]:
    for history in histories.values():
        yield from history


def _violation(rule: Rule, event: OutcomeEvent, why: str) -> Violation:
    move = f"{event.from_state}#{event.from_fence} → {event.to_state}#{event.to_fence}"
    return Violation(rule, event.outcome_id, f"{why}: event {event.seq}, {event.act} {move}")


def _check_edges(histories: Histories) -> Iterator[Violation]:
    for history in histories.values():
        last: tuple[str | None, int | None] = (None, None)
        for event in history:
            if (event.from_state, event.from_fence) != last:
                yield _violation(Rule.EDGES, event, f"it does not go on from {last}")
            if not _is_legal(event):
                yield _violation(Rule.EDGES, event, "no act does this")
            last = (event.to_state, event.to_fence)


def _is_legal(event: OutcomeEvent) -> bool:
    match event.act:
        case "insert":
            return event.to_state == State.PENDING
        case "delete":
            return event.from_state in FINAL
        case _:
            same = event.from_state == event.to_state
            return same or (event.from_state, event.to_state) in EDGES


def _check_order(histories: Histories) -> Iterator[Violation]:
    for history in histories.values():
        ended = False
        for before, event in pairwise(history):
            ended = ended or before.to_state in FINAL
            if event.act != "update":
                continue
            if ended and event.to_state != before.to_state:
                yield _violation(Rule.ORDER, event, "it had ended before")
            if (event.to_fence or 0) < (event.from_fence or 0):
                yield _violation(Rule.ORDER, event, "the fence falls")
            if event.attempt - before.attempt not in _attempt_steps(event):
                change = f"attempt {before.attempt} → {event.attempt}"
                yield _violation(Rule.ORDER, event, change)


def _attempt_steps(event: OutcomeEvent) -> set[int]:
    """Return by how much a move may change the attempt: a claim counts, a pause gives back."""
    move = (event.from_state, event.to_state)
    if move == (State.PENDING, State.RUNNING):
        return {1}
    if move in {(State.RUNNING, State.PENDING), (State.RUNNING, State.CANCELLED)}:
        return {0, -1}
    return {0}


def _check_fences(histories: Histories) -> Iterator[Violation]:
    for history in histories.values():
        for before, event in pairwise(history):
            if event.act == "update" and (why := _misuse(before, event)):
                yield _violation(Rule.FENCES, event, why)


def _misuse(before: OutcomeEvent, event: OutcomeEvent) -> str | None:
    """Tell how an update misuses the fence, if it does."""
    was, now = event.from_fence or 0, event.to_fence or 0
    if event.from_state == event.to_state:
        kept = was == now and before.finish_fence == event.finish_fence
        return None if kept else "it names another run and keeps the state"
    if event.to_state not in FINAL or event.from_state == State.PENDING:
        return None if now > was else "the fence does not grow"
    if not was == now == event.finish_fence:
        return f"run {event.finish_fence} ended the row of run {was}"
    return None


def _check_rows(histories: Histories, calls: Sequence[Call]) -> Iterator[Violation]:
    enqueued = [call for call in calls if call.op == "enqueue"]
    if not enqueued:
        return
    told = {call.outcome_id for call in enqueued if call.end == OK}
    for outcome_id in told - histories.keys():
        yield Violation(Rule.ROWS, outcome_id, "a client was told of it, and it never was a row")
    unknown = Counter(call.key for call in enqueued if call.end == INFO)
    for outcome_id in histories.keys() - told:
        row = histories[outcome_id][0]
        if row.parent_id is not None:
            continue
        if unknown[row.idempotency_key] == 0:
            yield _violation(Rule.ROWS, row, "nobody asked for it")
        unknown[row.idempotency_key] -= 1


def _check_effects(
    histories: Histories, effects: Sequence[HasFence], db_tasks: Collection[str] | None
) -> Iterator[Violation]:
    fences = defaultdict(list)
    for effect in effects:
        if effect.outcome_id is not None:
            fences[effect.outcome_id].append(effect.fence)
    for outcome_id in fences.keys() - histories.keys():
        yield Violation(Rule.EFFECTS, outcome_id, "an effect of an outcome that never was")
    for outcome_id, history in histories.items():
        success = _success(history)
        due = success is not None and (db_tasks is None or success.task_name in db_tasks)
        expected = [success.finish_fence] if success and due else []
        if fences[outcome_id] != expected:
            found = f"effects of runs {fences[outcome_id]} instead of {expected}"
            yield Violation(Rule.EFFECTS, outcome_id, found)
        claimed = {event.to_fence for event in history if event.to_state == State.RUNNING}
        for fence in set(fences[outcome_id]) - claimed:
            yield Violation(Rule.FENCES, outcome_id, f"an effect of run {fence}, which never was")


def _success(history: Sequence[OutcomeEvent]) -> OutcomeEvent | None:
    return next((event for event in history if event.to_state == State.SUCCEEDED), None)


def _check_keys(histories: Histories, calls: Sequence[Call]) -> Iterator[Violation]:
    rows = defaultdict(list)
    for event in _each(histories):
        if event.act == "insert" and event.idempotency_key is not None:
            rows[event.task_name, event.idempotency_key].append(event)
    for made in rows.values():
        for first, second in pairwise(made):
            if not _ended_before(histories[first.outcome_id], second.seq):
                why = f"made while {first.outcome_id} held the same key"
                yield _violation(Rule.KEYS, second, why)
    asked = defaultdict(list)
    for call in calls:
        if call.op == "enqueue" and call.key is not None:
            asked[call.key].append(call)
    for key, same in asked.items():
        made_ids = {event.outcome_id for (_, text), e in rows.items() if text == key for event in e}
        gone = {pk for pk in made_ids if histories[pk][-1].act == "delete"}
        if not _Register(same, made_ids, gone).is_linearizable():
            yield Violation(Rule.KEYS, None, f"no order explains the answers for {key!r}: {same}")


def _ended_before(history: Sequence[OutcomeEvent], seq: int) -> bool:
    return any(event.seq < seq and event.to_state in FINAL for event in history)


Holder = tuple[UUID | None, str]


class _Register:
    """
    The search for an order of one key's calls in which each answer is right.

    Each call happened at some moment between its beginning and its end. Where that is unknown it
    happened later, or never. The key is empty, or held by one outcome with certain arguments;
    one that was deleted has left it.
    """

    def __init__(self, calls: Sequence[Call], made: set[UUID], gone: set[UUID]) -> None:
        self.calls = [call for call in calls if call.end != FAIL or _is_conflict(call)]
        self.made = made
        self.gone = gone
        self.dead_ends: set[tuple[frozenset[int], Holder | None]] = set()

    def is_linearizable(self) -> bool:
        return self._explains(frozenset(range(len(self.calls))), None)

    def _explains(self, left: frozenset[int], holder: Holder | None) -> bool:
        if all(self.calls[place].end == INFO for place in left):
            return True
        if (left, holder) in self.dead_ends:
            return False
        first_end = min(self.calls[place].ended for place in left)
        for place in left:
            if self.calls[place].began <= first_end:
                for after in self._answers(self.calls[place], holder):
                    if self._explains(left - {place}, after):
                        return True
        self.dead_ends.add((left, holder))
        return False

    def _answers(self, call: Call, holder: Holder | None) -> Iterator[Holder | None]:
        """Yield who may hold the key after a call that found this holder."""
        arguments = repr(call.arguments)
        is_free = holder is None or holder[0] in self.gone
        created = call.told.get("created")
        if call.end == INFO:
            yield holder
            if is_free:
                yield from ((made, arguments) for made in self.made)
        elif call.end == FAIL:
            if holder is not None and holder[1] != arguments:
                yield holder
        elif holder == (call.outcome_id, arguments) and created is not True:
            yield holder
        elif is_free and created is not False:
            yield (call.outcome_id, arguments)


def _is_conflict(call: Call) -> bool:
    return "IdempotencyConflict" in call.told.get("error", "")


def _check_reads(histories: Histories, calls: Sequence[Call]) -> Iterator[Violation]:
    seen = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.began):
        if call.end == OK and call.op in {"enqueue", "read"} and call.outcome_id is not None:
            seen[call.outcome_id].append(call)
    for outcome_id, looks in seen.items():
        versions = [None, *(event.to_state for event in histories.get(outcome_id, ()))]
        yield from _check_looks(looks, versions)


def _check_looks(looks: Sequence[Call], versions: Sequence[str | None]) -> Iterator[Violation]:
    """Give each look the earliest version that it may have seen, given the looks before it."""
    known: list[tuple[float, int]] = []
    for look in looks:
        earliest = max((place for ended, place in known if ended < look.began), default=0)
        fitting = (
            place for place in range(earliest, len(versions)) if _shows(look, versions[place])
        )
        place = next(fitting, None)
        if place is None:
            saw = f"{look.told} was seen after version {earliest} of {list(versions)}"
            yield Violation(Rule.READS, look.outcome_id, saw)
        else:
            known.append((look.ended, place))


def _shows(look: Call, state: str | None) -> bool:
    """Tell whether a look fits a version; who enqueued has seen a row, in whatever state."""
    return state is not None if look.op == "enqueue" else look.told["state"] == state


def _check_outside(
    histories: Histories, external: Sequence[OutsideCall], external_tasks: Collection[str]
) -> Iterator[Violation]:
    keys = defaultdict(set)
    for call in external:
        keys[call.outcome_id].add(call.key)
    for outcome_id, used in keys.items():
        if len(used) > 1:
            told = f"the provider was given several keys: {sorted(map(str, used))}"
            yield Violation(Rule.OUTSIDE, outcome_id, told)
    for outcome_id, history in histories.items():
        success = _success(history)
        if success and success.task_name in external_tasks and outcome_id not in keys:
            yield _violation(Rule.OUTSIDE, success, "it succeeded and nobody was called")


def _check_ends(histories: Histories) -> Iterator[Violation]:
    for history in histories.values():
        last = history[-1]
        if last.act != "delete" and last.to_state not in FINAL:
            yield _violation(Rule.ENDS, last, "this was the last that happened to it")
