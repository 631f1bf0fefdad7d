"""
The acts of the console as an operator does them: where, by which buttons, and to what effect.

An act is one entry. Its steps are those of a hand: something is clicked, typed or chosen. Each has
rows of its own in the scene, since the others look at the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from tasks_app.models import BulkAction, Outcome, PausedQueue, Slot
from tests import by_hand
from tests.console.pages import LIST, OUTCOME, ConsolePage
from tests.console.scene import PAUSED, PRACTICE, PRACTISED
from tests.console.stage import Stage
from tests.waiting import wait_until

#: Seconds that a busy machine may take to answer.
PATIENCE = 20


@dataclass(frozen=True)
class Step:
    """One movement of the hand: a click, or a text that is typed, or chosen from a list."""

    selector: str
    text: str = ""

    def do(self, stage: Stage) -> None:
        element = found(stage, self.selector.format(**stage.facts))
        if not self.text:
            element.click()
        elif element.tag_name == "select":
            Select(element).select_by_visible_text(self.text)
        else:
            element.clear()
            element.send_keys(self.text)


def found(stage: Stage, selector: str) -> WebElement:
    """Return the element that a selector or a button's text finds, once it is there."""
    kind, _, text = selector.partition("button:")
    where = (By.XPATH, f"//button[normalize-space()={text!r}]") if text else (By.CSS_SELECTOR, kind)
    wait_until(
        lambda: stage.browser.find_elements(*where),
        PATIENCE,
        lambda: f"{selector} on {stage.browser.current_url}: {stage.browser.page_source[-3000:]}",
    )
    return stage.browser.find_element(*where)


@dataclass(frozen=True)
class ConsoleAct:
    """
    An act.

    Attributes:
        name: Of its test.
        page: Where it begins.
        steps: What the hand does there.
        is_done: Tells from the database and the scene's facts whether it has taken effect.
        told: What the page says afterwards.
        entries: How many the history then has more.
    """

    name: str
    page: ConsolePage
    steps: tuple[Step, ...]
    is_done: Callable[[Mapping[str, str]], bool]
    told: str
    entries: int = 1

    def __str__(self) -> str:
        return self.name


def on(fact: str) -> ConsolePage:
    """Return the page of one outcome of the scene."""
    return ConsolePage(fact, OUTCOME, (f"{{{fact}}}",))


def row(facts: Mapping[str, str], fact: str) -> Outcome:
    return Outcome.objects.get(pk=facts[fact])


def is_paused(queue: str) -> bool:
    return PausedQueue.objects.filter(pk=queue).exists()


def pressed(name: str, fact: str, *more: Step) -> tuple[ConsolePage, tuple[Step, ...]]:
    """Return the page of one outcome and how an act is done there: by its button, then a yes."""
    return on(fact), (Step(f'button[name="action"][value="{name}"]'), *more, YES)


def is_practised(facts: Mapping[str, str]) -> bool:
    """Run the task of the bulk action, as a worker would, and tell what became of all it met."""
    bulk = BulkAction.objects.filter(selection_json__contains=PRACTICE).first()
    if bulk is None:
        return False
    by_hand.answer(Outcome.objects.get(pk=bulk.outcome_id))
    bulk.refresh_from_db()
    replays = Outcome.objects.filter(replay_of__queue=PRACTICE, state="pending")
    return bulk.done == bulk.total == replays.count() == PRACTISED


CONFIRM = "admin:tasks_app_bulk_confirm"
QUEUES = ConsolePage("queues", "admin:tasks_app_queues")


def job(fact: str, query: str = "") -> ConsolePage:
    """Return the page of one periodic job of the scene."""
    return ConsolePage(fact, "admin:tasks_app_schedule", (f"{{{fact}}}",), query)


def has_slot(facts: Mapping[str, str], **wanted: Any) -> bool:
    """Tell whether the nightly job has such a slot, that enqueued something."""
    rows = Slot.objects.filter(entry_id=facts["schedule"], outcome_id__isnull=False)
    return rows.filter(**wanted).exists()


#: What says yes on the page that asks.
YES = Step('.tasks-answers input[type="submit"]')

ACTS = (
    ConsoleAct(
        "run now",
        on("due"),
        (Step('button[name="action"][value="run_now"]'),),
        lambda facts: row(facts, "due").run_at <= timezone.now(),
        "Made due now.",
    ),
    ConsoleAct(
        "cancel",
        *pressed("cancel", "unwanted"),
        lambda facts: row(facts, "unwanted").state == "cancelled",
        "Cancelled.",
    ),
    ConsoleAct(
        "ask to stop",
        *pressed("cancel", "stoppable"),
        lambda facts: row(facts, "stoppable").cancel_requested_at is not None,
        "Cancelled.",
    ),
    ConsoleAct(
        "replay",
        *pressed("replay", "replayed"),
        lambda facts: row(facts, "replayed").replays.filter(state="pending").count() == 1,
        "Replayed as a new outcome.",
    ),
    ConsoleAct(
        "discard",
        *pressed("discard", "discarded"),
        lambda facts: row(facts, "discarded").reason == "discarded",
        "Discarded.",
    ),
    ConsoleAct(
        "move",
        *pressed("move", "moved", Step("#to_queue", "maps"), Step("#to_priority", "8")),
        lambda facts: (row(facts, "moved").queue, row(facts, "moved").priority) == ("maps", 8),
        "Moved.",
    ),
    ConsoleAct(
        "cancel those ticked",
        ConsolePage("ticked", LIST, query="q={ticked}"),
        (
            Step('input[name="_selected_action"][value="{ticked}"]'),
            Step('select[name="action"]', "Cancel"),
            Step('button[name="index"]'),
            YES,
        ),
        lambda facts: row(facts, "ticked").state == "cancelled",
        "Cancelled.",
    ),
    ConsoleAct(
        "replay all that match",
        ConsolePage("practice", CONFIRM, query=f"queue={PRACTICE}&state=failed&action=replay"),
        (YES,),
        is_practised,
        f"{PRACTISED} of {PRACTISED}",
        entries=2,  # one of the beginning, one of the end
    ),
    ConsoleAct(
        "abort",
        ConsolePage("abort", "admin:tasks_app_bulk_action", ("{bulk_under_way}",)),
        (Step("button:Abort"),),
        lambda facts: (
            BulkAction.objects.get(pk=facts["bulk_under_way"]).abort_requested_at is not None
        ),
        "It stops after the batch that it is at.",
    ),
    ConsoleAct(
        "pause",
        QUEUES,
        (
            Step('summary[aria-label="Pause weather"]'),
            Step('form:has(input[value="weather"]) input[name="reason"]', "a storm"),
            Step('button[aria-label="Pause weather"]'),
        ),
        lambda facts: is_paused("weather"),
        "The queue weather is paused.",
    ),
    ConsoleAct(
        "resume",
        QUEUES,
        (Step(f'button[aria-label="Resume {PAUSED}"]'),),
        lambda facts: not is_paused(PAUSED),
        f"The queue {PAUSED} works again.",
    ),
    ConsoleAct(
        "run a job now",
        job("schedule"),
        (Step("button:Run now"),),
        lambda facts: has_slot(facts, slot_at__gt=timezone.now() - timedelta(minutes=5)),
        "The job nightly report runs now",
    ),
    ConsoleAct(
        "resume a job",
        job("resting"),
        (Step("button:Resume"),),
        lambda facts: PeriodicTask.objects.get(pk=facts["resting"]).enabled,
        "The job letters of thanks is due again.",
    ),
    ConsoleAct(
        "backfill a job",
        job("schedule", "since=2020-03-01T00:00&until=2020-03-01T12:00"),
        (Step("button:Backfill 1 slot"),),
        lambda facts: has_slot(facts, decision="backfilled"),
        "Backfilled 1 slot of the job nightly report",
    ),
)
