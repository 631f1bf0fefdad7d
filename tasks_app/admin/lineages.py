"""
How the outcomes of a request hang together: a tree, and how each came from the one above it.

What a helper enqueued stands one level below it. What follows an outcome (the next step of a
chain, a chord's callback, a replay) stands after it, on its own level: a chain stays a column.
"""

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from tasks_app.models import Outcome

#: Place in a canvas → how an outcome came from its parent.
CANVAS = {
    "chain": "next in chain",
    "chord": "chord callback",
    "link": "callback",
    "link_error": "error callback",
}
CHILD, REPLAY = "child", "replay"

#: These stand after what they came from, the others below it.
AFTER = frozenset({CANVAS["chain"], CANVAS["chord"], REPLAY})


@dataclass(frozen=True, slots=True)
class Kin:
    """An outcome in its tree; one without a relation begins a tree."""

    outcome: Outcome
    level: int = 1
    relation: str = ""


def tree(outcomes: Sequence[Outcome], places: Mapping[UUID, str]) -> list[Kin]:
    """
    Return outcomes as they are read from top to bottom, those that others came from before them.

    Args:
        outcomes: In the order of enqueueing.
        places: Where those that follow another stand in its canvas, by id.
    """
    known = {outcome.pk: outcome for outcome in outcomes}
    relations = {outcome.pk: _relation(outcome, known, places) for outcome in outcomes}
    below: defaultdict[UUID | None, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if relations[outcome.pk]:
            is_replay = relations[outcome.pk] == REPLAY
            source = outcome.replay_of_id if is_replay else outcome.parent_id
            below[source].append(outcome)
    found: dict[UUID, Kin] = {}
    roots = [outcome for outcome in outcomes if not relations[outcome.pk]]
    # Ids of parents that came with messages may form a ring, which no root leads to.
    for outcome in (*roots, *outcomes):
        if outcome.pk not in found:
            _descend(outcome, below, relations, found)
    return list(found.values())


def _descend(
    root: Outcome,
    below: Mapping[UUID | None, list[Outcome]],
    relations: Mapping[UUID, str],
    found: dict[UUID, Kin],
) -> None:
    """Add an outcome and all that came from it; without recursion, since chains may be long."""
    waiting = [Kin(root)]
    while waiting:
        kin = waiting.pop()
        if kin.outcome.pk in found:
            continue
        found[kin.outcome.pk] = kin
        nearer = [each for each in below.get(kin.outcome.pk, ()) if each.pk not in found]
        after = [each for each in nearer if relations[each.pk] in AFTER]
        inside = [each for each in nearer if relations[each.pk] not in AFTER]
        for level, group in ((kin.level, after), (kin.level + 1, inside)):
            waiting += [Kin(each, level, relations[each.pk]) for each in reversed(group)]


def _relation(outcome: Outcome, known: Container[UUID | None], places: Mapping[UUID, str]) -> str:
    if outcome.replay_of_id in known:
        return REPLAY
    if outcome.parent_id not in known:
        return ""
    return CANVAS.get(places.get(outcome.pk, "").partition(".")[0], CHILD)
