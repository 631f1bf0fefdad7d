"""Workers, relays and beat, as their heartbeats tell of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Count, Max, Q

from tasks_app.admin.texts import ago
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.models import Heartbeat
from tasks_app.pulse import BEAT

#: A process that has missed three beats is silent.
ALIVE = timedelta(seconds=3 * BEAT)

#: Kind of process → its name, how it is started, and what nobody does without it.
KINDS = {
    "worker": ("Workers", "python manage.py tasks worker", "nothing runs"),
    "relay": ("Relays", "python manage.py tasks relay", "nothing is announced to workers"),
    "beat": ("Beat", "python manage.py tasks beat", "no periodic task is enqueued"),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """All processes of a kind, in words."""

    name: str
    title: str
    text: str
    #: `good`, `bad`, or `calm` where it may well be so.
    mood: str
    #: What to run; empty if there is nothing to do.
    command: str = ""

    @property
    def sign(self) -> str:
        return {"good": "✓", "bad": "✗", "calm": "–"}[self.mood]


def kinds() -> list[Kind]:
    """Return how each kind of process is, in one statement."""
    now = DatabaseNow()
    seen: Any = Heartbeat.objects.values("kind").annotate(
        alive=Count("pk", filter=Q(seen_at__gt=now - ALIVE)),
        all=Count("pk"),
        last=Max("seen_at"),
        now=now,
    )
    return list(_kinds({each["kind"]: each for each in seen}))


def _kinds(seen: dict[str, Any]) -> Iterator[Kind]:
    has_worker = bool(seen.get("worker", {}).get("alive"))
    for name, (title, command, missed) in KINDS.items():
        found = seen.get(name)
        if found and found["alive"]:
            silent = found["all"] - found["alive"]
            more = f"; {silent:,} silent or stopped within a day" if silent else ""
            text = f"{found['alive']:,} alive, last sign {ago(found['now'] - found['last'])}{more}"
            yield Kind(name, title, text, "good")
        elif name == "relay" and conf.RELAY_IN_WORKER and (has_worker or not found):
            text = "inside each worker" if has_worker else "none alive: each worker brings one"
            yield Kind(name, title, text, "good" if has_worker else "bad")
        else:
            last = f"last sign {ago(found['now'] - found['last'])}" if found else "not seen today"
            mood = "calm" if name == "beat" and not found else "bad"
            yield Kind(name, title, f"none alive, {last}: {missed}", mood, command)
