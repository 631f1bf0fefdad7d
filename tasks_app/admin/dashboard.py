"""
The dashboard: whether work flows, over a range of time that stands in the address.

Six statements, however many outcomes, tasks and queues there are: it reads rollups and the last
count (`stock.py`), and asks the tables only what an index answers at once.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.urls import reverse
from django.utils import timezone

from tasks_app import declare, outbox, rollups, stock
from tasks_app.admin import charts
from tasks_app.admin.charts import CHARTS, RANGES, Chart, Range, Span
from tasks_app.admin.pages import Page
from tasks_app.admin.processes import kinds
from tasks_app.admin.texts import NOTHING, ago, lasting
from tasks_app.broker import known_queues
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.models import Deploy, Stock
from tasks_app.options import declared
from tasks_app.states import State

#: Tasks, queues and deploys that are listed at most.
FAILING, QUEUES, DEPLOYS = 10, 20, 20

#: Rows of single tasks that are read at most: the newest.
TASK_ROWS = 5_000

#: A count that is older than this, and than three turns, is told as a worry.
STALE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Count:
    """The last count of stock, or none yet."""

    now: datetime
    taken_at: datetime | None
    #: What had not settled: see `stock.py`.
    recent: stock.Counts

    @property
    def end(self) -> datetime:
        """Until when something is known."""
        return self.taken_at or self.now

    @property
    def text(self) -> str:
        if self.taken_at is None:
            return "Nothing has been counted yet: workers and relays do that, every few seconds."
        return f"Counted {ago(self.now - self.taken_at)}."

    @property
    def is_stale(self) -> bool:
        bound = max(STALE, 3 * conf.METRICS_INTERVAL)
        return self.taken_at is None or self.now - self.taken_at > bound

    def numbers(self, kind: str) -> Mapping[str, float]:
        return self.recent.get(kind, {})


def last_count() -> Count:
    """Return the last count."""
    row: Any = Stock.objects.annotate(now=DatabaseNow()).filter(pk=stock.ROW).first()
    if row is None:
        return Count(timezone.now(), None, {})
    return Count(row.now, row.taken_at, json.loads(row.recent_json))


class Dashboard(Page):
    """Throughput, failures, waits and runs; queues and processes as they are now."""

    name = "dashboard"
    route = "dashboard/"
    title = "Dashboard"
    template = "admin/tasks_app/console/dashboard.html"

    def context(self, **named: Any) -> dict[str, Any]:
        points = {**rollups.read(self.range.stored, self._begin(self.range.row))}
        for place, point in stock.newest_minutes(self.count.recent).items():
            rollups.add(points.setdefault(place, rollups.empty()), point)
        shown = self._spans(points, self.range.shown)
        deploys = self._deploys()
        return {
            "range": self.range,
            "ranges": RANGES.values(),
            "count": self.count,
            "kinds": kinds(),
            "queues": list(self._queues()),
            "data": self._data(shown, deploys),
            "charts": list(self._charts(points, shown)),
            "has_ended": any(each.ended for each in shown),
            "failing": list(self._failing()),
            "failing_since": self._begin(self.range.by_task),
            "deploys": deploys,
        }

    @cached_property
    def range(self) -> Range:
        """The range that the address names; for any other the default, and the user is told."""
        asked = self.request.GET.get("range", charts.DEFAULT)
        if asked not in RANGES:
            known = ", ".join(RANGES)
            messages.warning(
                self.request, f"There is no such range: shown is {charts.DEFAULT}. Ranges: {known}."
            )
        return RANGES.get(asked, RANGES[charts.DEFAULT])

    @cached_property
    def count(self) -> Count:
        return last_count()

    def _begin(self, step: int) -> datetime:
        return self.range.begin(self.count.now, step)

    def _spans(self, points: rollups.Points, step: int) -> list[Span]:
        begin = self._begin(step)
        return charts.spans(points, begin, max(self.count.end, begin), step)

    def _data(self, shown: list[Span], deploys: list[Deploy]) -> dict[str, Any]:
        return {
            "zone": timezone.get_current_timezone_name(),
            "times": [int(each.start.timestamp()) for each in shown],
            "charts": {chart.name: chart.data(shown) for chart in CHARTS},
            "deploys": [
                {"at": int(each.first_seen_at.timestamp()), "version": each.version}
                for each in deploys
            ],
        }

    def _charts(self, points: rollups.Points, shown: list[Span]) -> Iterator[dict[str, Any]]:
        whole = rollups.empty()
        for each in shown:
            rollups.add(whole, each.point)
        total = Span(shown[0].start, sum(each.seconds for each in shown), whole)
        cells = self._spans(points, self.range.row)
        for chart in CHARTS:
            yield {"chart": chart, "whole": _texts(chart, total), "rows": list(chart.rows(cells))}

    def _deploys(self) -> list[Deploy]:
        rows = Deploy.objects.filter(first_seen_at__gte=self._begin(self.range.shown))
        return list(rows.order_by("-first_seen_at")[:DEPLOYS])

    def _queues(self) -> Iterator[dict[str, Any]]:
        """Yield what waits in each queue, the longest first."""
        declare.load_tasks()
        depth = Counter(dict.fromkeys(known_queues(declared), 0))
        depth.update({name: int(number) for name, number in self.count.numbers("depth").items()})
        names = [name for name, _ in depth.most_common(QUEUES)]
        oldest, unannounced = self.count.numbers("oldest_due_at"), outbox.oldest_unannounced(names)
        for name in names:
            yield {
                "name": name,
                "depth": charts.number(depth[name]),
                "age": self._since(rollups.moment(oldest[name]) if name in oldest else None),
                "lag": self._since(unannounced.get(name)),
                "address": self._outcomes(state=State.PENDING, queue=name),
            }

    def _since(self, begin: datetime | None) -> str:
        return NOTHING if begin is None else lasting(self.count.now - begin)

    def _failing(self) -> Iterator[dict[str, Any]]:
        """Yield the tasks that failed most often."""
        failed: Counter[str] = Counter()
        ended: Counter[str] = Counter()
        for task, state, number in self._ends():
            ended[task] += number
            failed[task] += number if state == State.FAILED else 0
        for task, number in (+failed).most_common(FAILING):
            yield {
                "task": task,
                "failed": charts.number(number),
                "ended": charts.number(ended[task]),
                "share": charts.percent(100 * number / ended[task]),
                "address": self._outcomes(state=State.FAILED, task=task),
            }

    def _ends(self) -> Iterator[tuple[str, str, int]]:
        """Yield task, state and number of what ended in the range, settled or not."""
        step = self.range.by_task
        settled = rollups.read_failing(step, self._begin(step), TASK_ROWS)
        for (_, task), point in settled.items():
            for state, number in point["ended"].items():
                yield task, state, number
        for name, recent in self.count.numbers("finished").items():
            task, state = stock.labels(name)
            yield task, state, int(recent)

    def _outcomes(self, **filters: str) -> str:
        site = self.model_admin.admin_site.name
        address = reverse("admin:tasks_app_outcome_changelist", current_app=site)
        return f"{address}?{urlencode(filters)}"


def _texts(chart: Chart, span: Span) -> list[tuple[str, str]]:
    return [(column, text(span)) for column, text in chart.columns.items()]
