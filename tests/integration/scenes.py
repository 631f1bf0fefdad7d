"""Rows of a request whose work went through much, written as its workers would have left them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone

from tasks_app.models import Attempt, Outcome, WebRequest
from tasks_app.states import AttemptState, State
from tasks_app.uuid7 import uuid7

REQUEST = "7f3a52c0d1e94b7c8a6d5e4f3b2a1908"

WORKER = "worker@node-1/{}"

#: Runs of an outcome: seconds since the start at which it began and ended, and how it ended.
Run = tuple[float, float, str]


class Scene:
    """One request, whose outcomes are added with times in seconds since it began."""

    def __init__(self, request_id: str = REQUEST, ago: float = 120) -> None:
        self.request_id = request_id
        self.start = timezone.now() - timedelta(seconds=ago)

    def at(self, seconds: float) -> datetime:
        return self.start + timedelta(seconds=seconds)

    def web(self, seconds: float, status: int | None = 202) -> WebRequest:
        """Record the web request."""
        return WebRequest.objects.create(
            request_id=self.request_id,
            method="POST",
            route="shop/orders/<int:order_id>/submit/",
            status=status,
            started_at=self.start,
            finished_at=self.at(seconds),
        )

    def outcome(
        self,
        name: str,
        created: float,
        runs: tuple[Run, ...] = (),
        state: str = State.SUCCEEDED,
        **values: Any,
    ) -> Outcome:
        """Write an outcome and its ended runs; the last run of a running one goes on."""
        pk = values.pop("id", None) or uuid7()
        parent = values.pop("parent", None)
        ended = runs[:-1] if state == State.RUNNING else runs
        last = runs[-1] if runs else (created, created, "")
        is_final = state not in {State.PENDING, State.RUNNING}
        outcome = Outcome(
            id=pk,
            task_name=name,
            queue="default",
            state=state,
            request_id=self.request_id,
            root_id=parent.root_id if parent else pk,
            parent_id=parent and parent.pk,
            created_at=self.at(created),
            run_at=self.at(created),
            started_at=self.at(runs[0][0]) if runs else None,
            finished_at=self.at(last[1]) if is_final else None,
            claimed_at=self.at(last[0]) if state == State.RUNNING else None,
            lease_until=timezone.now() + timedelta(hours=1) if state == State.RUNNING else None,
            attempt=len(runs),
            fence=2 * len(runs),
            finish_fence=2 * len(runs) if is_final and runs else None,
            max_attempts=5,
        )
        for field, value in values.items():
            setattr(outcome, field, value)
        outcome.save(force_insert=True)
        due = created
        for number, (began, end, ending) in enumerate(ended, 1):
            self.attempt(outcome, number, due, began, end, ending)
            due = (end + runs[number][0]) / 2 if number < len(runs) else end
        return outcome

    def attempt(  # noqa: PLR0913, PLR0917 - a run has so many sides
        self, outcome: Outcome, number: int, due: float, began: float, end: float, ending: str
    ) -> Attempt:
        """Write an ended run."""
        bad = {AttemptState.RETRIED: "ConnectionError", AttemptState.FAILED: "LookupError"}
        errors = {name: f"{kind}: not yet" for name, kind in bad.items()}
        errors[AttemptState.LOST] = "The worker was lost: its lease ran out."
        return Attempt.objects.create(
            outcome=outcome,
            number=number,
            fence=2 * number,
            state=ending,
            worker=WORKER.format(number),
            due_at=self.at(due),
            started_at=self.at(began),
            finished_at=self.at(end),
            error=errors.get(ending, ""),
            error_type=bad.get(ending, ""),
            sentry_event_id=uuid4().hex if ending == AttemptState.FAILED else "",
            log=f"{self.at(began).isoformat()} INFO shop: card tok_secret_4242 is charged",
        )


def follower(name: str, pk: Any) -> dict[str, Any]:
    """Return a signature as a row keeps it."""
    return {"task": name, "args": [], "kwargs": {}, "options": {"task_id": str(pk)}}


def rich(ago: float = 120, request_id: str = REQUEST) -> Scene:
    """Write a request with a fan-out, retries, a killed worker, a chain, a chord and a replay."""
    scene = Scene(request_id, ago)
    scene.web(0.18)
    ok = AttemptState.SUCCEEDED
    paid, mailed, zipped = uuid4(), uuid4(), uuid4()
    submit = scene.outcome(
        "shop.submit_order",
        0.12,
        ((0.3, 0.9, ok),),
        options_json=json.dumps({"chain": [follower("shop.pay", paid)]}),
    )
    images = [
        scene.outcome(
            "shop.draw_label",
            0.7 + number / 50,
            ((0.95 + number * 0.4, 2 + number * 0.5, ok),),
            parent=submit,
            group_id="a-group",
            group_index=number,
            options_json=json.dumps({"chord": follower("shop.zip_labels", zipped)}),
        )
        for number in range(3)
    ]
    scene.outcome("shop.zip_labels", 3.0, ((3.1, 3.7, ok),), id=zipped, parent=images[-1])
    pay = scene.outcome(
        "shop.pay",
        0.9,
        (
            (1.1, 1.5, AttemptState.RETRIED),
            (3.0, 3.2, AttemptState.RETRIED),
            (5.2, 5.9, ok),
        ),
        id=paid,
        parent=submit,
        options_json=json.dumps({"link": [follower("shop.mail_receipt", mailed)]}),
    )
    scene.outcome("shop.mail_receipt", 5.9, ((6.0, 6.3, ok),), id=mailed, parent=pay)
    scene.outcome(
        "shop.reserve_stock",
        0.75,
        ((1.0, 4.4, AttemptState.LOST), (5.6, 7.1, ok)),
        parent=submit,
        crashes=1,
    )
    failed = scene.outcome(
        "shop.tell_warehouse",
        0.8,
        ((1.2, 1.4, AttemptState.RETRIED), (2.1, 2.5, AttemptState.FAILED)),
        State.FAILED,
        parent=submit,
        reason="retries_exhausted",
        error="LookupError: not yet",
    )
    scene.outcome(
        "shop.tell_warehouse",
        ago - 40,
        ((ago - 39.6, ago - 37, ok),),
        parent=submit,
        replay_of=failed,
    )
    scene.outcome("shop.survey", 0.85, (), State.CANCELLED, parent=submit, finished_at=scene.at(2))
    return scene


def unfinished(ago: float = 6) -> Scene:
    """Write a request that is at work."""
    scene = Scene("a-request-at-work-0001", ago)
    scene.web(0.1)
    root = scene.outcome("shop.import_feed", 0.05, ((0.2, 0.9, AttemptState.SUCCEEDED),))
    runs = ((0.9, 1.9, AttemptState.RETRIED), (2.5, 0, State.RUNNING))
    scene.outcome(
        "shop.import_page",
        0.6,
        runs,
        State.RUNNING,
        parent=root,
        progress_done=42,
        progress_total=100,
    )
    scene.outcome("shop.import_page", 0.7, (), State.PENDING, parent=root)
    return scene
