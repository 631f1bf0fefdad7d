"""The list's filters: their choices are known without asking the table."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from tasks_app import declare, outbox
from tasks_app.admin.conditions import has_text
from tasks_app.admin.reach import first_id
from tasks_app.admin.rights import user_key
from tasks_app.admin.tabs import Counted
from tasks_app.broker import task_queue
from tasks_app.models import Outcome
from tasks_app.options import declared
from tasks_app.selection import ran_for
from tasks_app.states import State
from tasks_app.stock import SCHEDULE


class StateFilter(admin.SimpleListFilter):
    """By state; the states are known without asking the table."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.value, state.value) for state in State]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> QuerySet[Outcome]:
        return queryset.filter(state=self.value()) if self.value() else queryset


class _NamesFilter(admin.SimpleListFilter):
    """By a name that is known in this process, or that the address gives."""

    parameter_name: str

    def names(self) -> Iterable[str]:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = {*self.names(), *request.GET.getlist(self.parameter_name)}
        return [(name, name) for name in sorted(names)]


class TaskFilter(_NamesFilter):
    """By task, of those declared in this process."""

    title = "task"
    parameter_name = "task"

    def names(self) -> Iterable[str]:
        declare.load_tasks()
        return declared

    def queryset(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> QuerySet[Outcome]:
        return queryset.filter(task_name=self.value()) if self.value() else queryset


class QueueFilter(_NamesFilter):
    """By queue, of those that tasks here are sent to and those where something waits."""

    title = "queue"
    parameter_name = "queue"

    def names(self) -> Iterable[str]:
        sent = {task_queue(name, options.queue) for name, options in declared.items()}
        return sent.union(outbox.waiting_queues())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> QuerySet[Outcome]:
        return queryset.filter(queue=self.value()) if self.value() else queryset


class PeriodicFilter(admin.SimpleListFilter):
    """By schedule; of those whose calls were counted as succeeded, or that the address gives."""

    title = "schedule"
    parameter_name = "periodic"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        given = set(request.GET.getlist(self.parameter_name)) - {"yes", "no"}
        names = sorted(given.union(Counted.read().schedules))
        return [("yes", "Any schedule"), ("no", "None"), *((name, name) for name in names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> QuerySet[Outcome]:
        header = has_text("options_json", f'"{SCHEDULE}":')
        match self.value():
            case None:
                return queryset
            case "yes":
                return queryset.filter(header)
            case "no":
                return queryset.filter(~header)
            case name:
                # Both spellings of JSON; a whole text with its quotes, so it begins nothing.
                texts = (f'"{SCHEDULE}":{space}{json.dumps(name)}' for space in ("", " "))
                one, other = (has_text("options_json", text) for text in texts)
                return queryset.filter(one | other)


class AgeFilter(admin.SimpleListFilter):
    """By the time since it was enqueued, which its id begins with."""

    title = "age"
    parameter_name = "age"

    AGES = {
        "1h": ("Last hour", timedelta(hours=1)),
        "24h": ("Last 24 hours", timedelta(hours=24)),
        "7d": ("Last 7 days", timedelta(days=7)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, name) for value, (name, _) in self.AGES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> QuerySet[Outcome]:
        since = self.since(self.value())
        if since is None:
            return queryset
        # The column, too: an id that Celery or a caller chose tells no time.
        return queryset.filter(pk__gte=first_id(since), created_at__gte=since)

    @classmethod
    def since(cls, value: str | None) -> datetime | None:
        """Return the moment after which all of that age were enqueued."""
        age = cls.AGES.get(value or "")
        return None if age is None else timezone.now() - age[1]


class DurationFilter(admin.SimpleListFilter):
    """By how long it ran, from its first start to its end, or has run so far."""

    title = "run time"
    parameter_name = "duration"

    SPANS: dict[str, tuple[str, int, int | None]] = {
        "1s": ("Less than 1 s", 0, 1),
        "10s": ("1 s to 10 s", 1, 10),
        "1m": ("10 s to 1 min", 10, 60),
        "long": ("More than 1 min", 60, None),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, name) for value, (name, _, _) in self.SPANS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> QuerySet[Outcome]:
        if self.value() not in self.SPANS:
            return queryset
        _, least, most = self.SPANS[str(self.value())]
        return queryset.filter(ran_for(least, most))


class OwnerFilter(admin.SimpleListFilter):
    """By the user that it was enqueued for: oneself, nobody, or whom a link names."""

    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        given = [pk for pk in request.GET.getlist(self.parameter_name) if pk not in {"me", "none"}]
        return [("me", "Me"), ("none", "Nobody"), *((pk, f"User {pk}") for pk in given)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> QuerySet[Outcome]:
        match self.value():
            case None:
                return queryset
            case "none":
                return queryset.filter(owner_id=None)
            case "me":
                return queryset.filter(owner_id=request.user.pk)
            case given:
                owner = user_key(given)
                return queryset.none() if owner is None else queryset.filter(owner_id=owner)
