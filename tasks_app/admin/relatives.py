"""
The outcomes around one: parent, root, children, replays, and who else asked for it.

All of a family share a request id, and that has an index; where a request has caused so many that
reading them all would take long, only those that were enqueued next are looked through.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet

from tasks_app.admin.outcome_list import request_address
from tasks_app.admin.reach import FEW, few
from tasks_app.admin.rights import user_key
from tasks_app.admin.texts import SIGNS
from tasks_app.models import Outcome, Repeat
from tasks_app.states import State

#: Children and replays that are shown.
MOST = 50


@dataclass(frozen=True, slots=True)
class Relative:
    """Another outcome, as a link to it is shown; without a task it is gone, or was never here."""

    pk: UUID
    task_name: str = ""
    state: str = ""

    @property
    def sign(self) -> str:
        return SIGNS[State(self.state)] if self.state else ""


@dataclass(frozen=True, slots=True)
class Family:
    """What an outcome came from, and what came from it."""

    parent: Relative | None
    root: Relative | None
    replay_of: Relative | None
    children: list[Relative]
    replays: list[Relative]
    #: False: there may be more than are shown.
    is_whole: bool

    @classmethod
    def of(cls, outcome: Outcome) -> "Family":
        """Read an outcome's family: three statements at most."""
        elder = (outcome.parent_id, outcome.root_id, outcome.replay_of_id)
        known = _known({pk for pk in elder if pk not in {None, outcome.pk}})
        parent, root, source = (None if pk is None else known.get(pk) for pk in elder)
        younger, is_whole = _younger(outcome)
        return cls(
            parent,
            root,
            source,
            [_relative(row) for row in younger if row["parent_id"] == outcome.pk],
            [_relative(row) for row in younger if row["replay_of_id"] == outcome.pk],
            is_whole,
        )


@dataclass(frozen=True, slots=True)
class Asker:
    """Somebody who asked for an outcome that was there already."""

    repeat: Repeat
    #: Name of the user; empty where nobody was logged in.
    owner: str
    #: All that the asking request caused; empty where no request asked.
    request_page: str


def askers(outcome: Outcome, site: str) -> list[Asker]:
    """Return the first repeats of an outcome, in order: two statements at most."""
    repeats = list(Repeat.objects.filter(outcome_id=outcome.pk).order_by("pk")[:MOST])
    names = _names({repeat.owner_pk for repeat in repeats if repeat.owner_pk})
    return [
        Asker(
            repeat,
            names.get(repeat.owner_pk, repeat.owner_pk and f"user {repeat.owner_pk}"),
            request_address(repeat.request_id, site) if repeat.request_id else "",
        )
        for repeat in repeats
    ]


def _names(pks: Iterable[str]) -> dict[str, str]:
    """Return users' names by their primary keys as text; those that are gone are left out."""
    keys = [key for key in map(user_key, pks) if key is not None]
    if not keys:
        return {}
    found = get_user_model()._default_manager.filter(pk__in=keys)  # noqa: SLF001 - whatever its name
    return {str(user.pk): user.get_username() for user in found}


def _known(pks: set[Any]) -> dict[Any, Relative]:
    """Return outcomes by their ids, also of those that were pruned."""
    if not pks:
        return {}
    rows = _columns(Outcome.objects.filter(pk__in=pks))
    return {pk: Relative(pk) for pk in pks} | {row["pk"]: _relative(row) for row in rows}


def _younger(outcome: Outcome) -> tuple[list[dict[str, Any]], bool]:
    """Return an outcome's children and replays, and whether these are all."""
    if outcome.request_id is None:
        return [], True
    rows = Outcome.objects.filter(request_id=outcome.request_id)
    is_small = few(rows)
    if not is_small:
        rows = rows.filter(_next_ids(outcome))
    rows = rows.filter(Q(parent_id=outcome.pk) | Q(replay_of=outcome.pk))
    # By a column without an index: the order of an index would be read up to the end of the table.
    found = list(_columns(rows.order_by("created_at", "pk"))[: MOST + 1])
    return found[:MOST], is_small and len(found) <= MOST


def _next_ids(outcome: Outcome) -> Q:
    """Return the condition for the ids that follow an outcome's, as many as are read quickly."""
    following = Outcome.objects.filter(pk__gt=outcome.pk).order_by("pk")
    last = list(following.values_list("pk", flat=True)[FEW : FEW + 1])
    return Q(pk__gt=outcome.pk, **({"pk__lte": last[0]} if last else {}))


def _columns(rows: QuerySet[Outcome]) -> Any:
    return rows.values("pk", "task_name", "state", "parent_id", "replay_of_id")


def _relative(row: dict[str, Any]) -> Relative:
    return Relative(row["pk"], row["task_name"], row["state"])
