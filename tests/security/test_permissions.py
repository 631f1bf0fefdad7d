"""
Users × permissions × actions, on every page that the admin of a project with this app has.

The tables say who may do what. The tests enumerate what is there (models, actions, addresses) and
fail where the tables do not name it, so that nothing is opened by accident. A page or an act of the
console is a row of `CONSOLE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client, RequestFactory, override_settings
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from example_project.dispatch.models import Job
from tasks_app import bulk_actions, context, queues
from tasks_app.acts import ACTS
from tasks_app.admin.console import PAGES
from tasks_app.admin.pages import Page
from tasks_app.integrations.beat import CheckedPeriodicTaskAdmin, replace_unchecked
from tasks_app.models import BulkAction, Cause, Outcome, PausedQueue, Slot, Timer
from tasks_app.selection import Selection
from tasks_app.selection_texts import as_json
from tests.integration.command_line import failed
from tests.security.rows import make
from tests.testapp import tasks

pytestmark = [
    pytest.mark.django_db,
    # Django's own form of a URL, on the pages of the example's models.
    pytest.mark.filterwarnings("ignore:The default scheme will be changed"),
]

OK, ACCEPTED, FOUND = 200, 202, 302
UNAUTHORIZED, FORBIDDEN, MISSING, WRONG_METHOD = 401, 403, 404, 405


@dataclass(frozen=True)
class Access:
    """Which permission on a model opens what; None stands for nobody, superusers included."""

    #: Any of these.
    see: tuple[str, ...] = ("view", "change")
    #: All of these.
    add: tuple[str, ...] | None = ("add",)
    change: tuple[str, ...] | None = ("change",)
    delete: tuple[str, ...] | None = ("delete",)
    #: Action → the permission that it needs besides being able to see the list.
    actions: dict[str, str] = field(default_factory=lambda: {"delete_selected": "delete"})
    #: Addresses beside Django's own.
    more_addresses: frozenset[str] = frozenset()


STOCK = Access()
LOOK_ONLY = Access(add=None, change=None, delete=None, actions={})

MODELS = {
    "auth.group": STOCK,
    "auth.user": replace(
        STOCK,
        add=("add", "change"),
        more_addresses=frozenset({"auth_user_password_change"}),
    ),
    "django_celery_beat.clockedschedule": STOCK,
    "django_celery_beat.crontabschedule": STOCK,
    "django_celery_beat.intervalschedule": STOCK,
    "django_celery_beat.solarschedule": STOCK,
    "django_celery_beat.periodictask": replace(
        STOCK,
        actions={
            "delete_selected": "delete",
            "enable_tasks": "change",
            "disable_tasks": "change",
            "toggle_tasks": "change",
            "run_tasks": "tasks_app.enqueue_outcome",
        },
    ),
    "django_celery_results.groupresult": STOCK,
    "django_celery_results.taskresult": STOCK,
    "dispatch.airport": LOOK_ONLY,
    "dispatch.briefing": LOOK_ONLY,
    "dispatch.countrymap": LOOK_ONLY,
    "dispatch.delivery": LOOK_ONLY,
    "dispatch.flight": LOOK_ONLY,
    "dispatch.importproblem": LOOK_ONLY,
    "dispatch.job": LOOK_ONLY,
    "dispatch.ledgerentry": LOOK_ONLY,
    "dispatch.report": LOOK_ONLY,
    "dispatch.stationmanager": LOOK_ONLY,
    "dispatch.subscriber": LOOK_ONLY,
    "dispatch.weatherreport": LOOK_ONLY,
    "tasks_app.outcome": Access(
        see=("view",),
        add=None,
        change=None,
        delete=None,
        actions={name: act.permission for name, act in ACTS.items()},
        more_addresses=frozenset(f"tasks_app_{page.name}" for page in PAGES),
    ),
}

#: Address of the admin's own pages → its arguments, and what anonymous clients, users who are no
#: staff, and staff without any permission get.
SITE = {
    "index": ([], (FOUND, FOUND, OK)),
    "login": ([], (OK, OK, FOUND)),
    "logout": ([], (FOUND, FOUND, WRONG_METHOD)),
    "password_change": ([], (FOUND, FOUND, OK)),
    "password_change_done": ([], (FOUND, FOUND, OK)),
    "autocomplete": ([], (FOUND, FOUND, FORBIDDEN)),
    "jsi18n": ([], (FOUND, FOUND, OK)),
    "view_on_site": ([1, 1], (FOUND, FOUND, MISSING)),
    "app_list": (["tasks_app"], (FOUND, FOUND, MISSING)),
}

#: Pages of the example project; all of them are open, since its servers listen on loopback alone.
OPEN_PAGES = {"dispatch:desk", "dispatch:start", "dispatch:state", "dispatch:map", "dispatch:mail"}

TOKEN = "only-for-the-scraper"

#: What a scraper may bring.
HEADERS = {
    "token": f"Bearer {TOKEN}",
    "token in another case": f"bearer {TOKEN}",
    "wrong token": f"Bearer {TOKEN}x",
    "wrong scheme": f"Basic {TOKEN}",
    "non-ASCII token": "Bearer ü",
}

#: Pages for monitors → who does not get them.
MONITORS = {
    "tasks_app:healthz": {},
    "tasks_app:readyz": {},
    "tasks_app:metrics": dict.fromkeys(
        (
            *("anonymous", "member", "staff"),
            *("wrong token", "wrong scheme", "non-ASCII token"),
        ),
        UNAUTHORIZED,
    ),
}

#: Pages for who waits for an outcome → the permissions that open them to those who neither own it
#: nor bring a token. To everybody else there is no such outcome.
WAITERS = {
    "tasks_app:status": {"tasks_app.view_outcome"},
    "tasks_app:events": {"tasks_app.view_outcome"},
    "tasks_app:cancel": {"tasks_app.cancel_outcome"},
}

#: Ids that no page shows. Django itself answers a text for a number with an error.
FORGED_IDS = {
    "tasks_app.outcome": [
        "0",
        "x",
        "' OR 1=1 --",
        "9" * 40,
        "%",
        "00000000-0000-0000-0000-00000000",
    ]
}

#: Who asks; the permissions of a model follow them.
STRANGERS = ("anonymous", "member with every right", "staff", "staff for all other models")


@dataclass(frozen=True)
class Visitor:
    """Somebody at the door of a model's pages."""

    label: str
    name: str
    rights: frozenset[str] = frozenset()

    @property
    def is_let_in(self) -> bool:
        return self.name not in STRANGERS[:2]

    @property
    def may_see(self) -> bool:
        rights = MODELS[self.label].see
        return self.name == "superuser" or any(self.may((right,)) for right in rights)

    def may(self, wanted: tuple[str, ...] | None) -> bool:
        """Tell whether all of these permissions are there; None is what nobody may."""
        if wanted is None or self.name == "superuser":
            return wanted is not None
        return all(full(self.label, right) in self.rights for right in wanted)

    def __str__(self) -> str:
        return f"{self.label}-{self.name}"


def full(label: str, right: str) -> str:
    """Return a permission with its app, made of an act on a model where it is one."""
    app, model = label.split(".")
    return right if "." in right else f"{app}.{right}_{model}"


def holders(label: str) -> list[Visitor]:
    """Return whoever holds one permission that means anything on a model's pages."""
    acts = {full(label, act) for act in ("view", "add", "change", "delete")}
    acts |= {full(label, right) for right in MODELS[label].actions.values()}
    return [Visitor(label, f"only {right}", frozenset({right})) for right in sorted(acts)]


def strangers(label: str) -> list[Visitor]:
    return [Visitor(label, name) for name in STRANGERS]


def actors(label: str) -> list[Visitor]:
    """Return whoever may look and holds the permission of one action besides."""
    view, rights = full(label, "view"), sorted(set(MODELS[label].actions.values()))
    return [
        Visitor(label, f"view and {right}", frozenset({view, full(label, right)}))
        for right in rights
    ]


READERS = [
    visitor
    for label in MODELS
    for visitor in (*strangers(label), *holders(label), Visitor(label, "superuser"))
]
ACTORS = [
    *(visitor for visitor in READERS if MODELS[visitor.label].actions),
    *(visitor for label in MODELS for visitor in actors(label)),
]


def log_in(visitor: Visitor) -> Client:
    """Return a client in whose session the visitor is logged in."""
    client = Client()
    if visitor.name == "anonymous":
        return client
    user = get_user_model().objects.create_user(
        "visitor", is_staff=visitor.is_let_in, is_superuser=visitor.name == "superuser"
    )
    if visitor.name == "member with every right":
        user.user_permissions.set(Permission.objects.all())
    elif visitor.name == "staff for all other models":
        app, model = visitor.label.split(".")
        own = Permission.objects.filter(
            content_type__app_label=app, content_type__model=model
        ).values("pk")
        user.user_permissions.set(Permission.objects.exclude(pk__in=own))
    else:
        names = [right.partition(".") for right in visitor.rights]
        held = [
            Permission.objects.get(content_type__app_label=app, codename=codename)
            for app, _, codename in names
        ]
        assert len(held) == len(visitor.rights)
        user.user_permissions.set(held)
    client.force_login(user)
    return client


def address(label: str, page: str, row: Any = None) -> str:
    """Return the address of a model's page."""
    name = f"admin:{label.replace('.', '_')}_{page}"
    return reverse(name, args=[] if row is None else [row.pk])


def press(client: Client, label: str, action: str, *ids: Any) -> Any:
    """Send the list's form with some rows ticked, as the list does or by hand."""
    form = {"action": action, "_selected_action": [str(each) for each in ids], "index": "0"}
    yes = {"post": "yes", "to_priority": "9"}
    return client.post(address(label, "changelist"), {**form, **yes})


def target(label: str, action: str) -> Any:
    """Return a row that the action is for."""
    return failed(tasks.add.enqueue(1, 2)) if action == "replay" else make(model_of(label))


def model_of(label: str) -> Any:
    return apps.get_model(label)


def snapshot(label: str) -> list[Any]:
    """Return every row that a request could have changed, enqueued or logged."""
    models = {model_of(label), LogEntry, *apps.get_app_config("tasks_app").get_models()}
    return [
        list(model._base_manager.order_by("pk").values())
        for model in sorted(models, key=lambda model: model._meta.label)
    ]


def assert_answer(response: Any, visitor: Visitor, *, allowed: bool) -> None:
    """Check that a visitor was let in, refused, or sent to the door."""
    at_the_door = response.headers.get("Location", "").startswith("/admin/login/")
    assert at_the_door == (not visitor.is_let_in)
    if visitor.is_let_in:
        assert (response.status_code != FORBIDDEN) == allowed, response
        assert response.status_code in {OK, FOUND, FORBIDDEN}


@pytest.mark.parametrize("visitor", READERS, ids=str)
def test_who_may_see_and_write_what(visitor):
    """Each page opens for the table's permissions and for no others; a refusal writes nothing."""
    label, access = visitor.label, MODELS[visitor.label]
    row, client = make(model_of(label)), log_in(visitor)
    before = snapshot(label)
    for page, of in (("changelist", None), ("change", row), ("history", row)):
        assert_answer(client.get(address(label, page, of)), visitor, allowed=visitor.may_see)
    for page, of, rights in (
        ("add", None, access.add),
        ("change", row, access.change),
        ("delete", row, access.delete),
    ):
        allowed = visitor.may(rights)
        assert_answer(client.post(address(label, page, of)), visitor, allowed=allowed)
        before = snapshot(label) if allowed else before
        assert snapshot(label) == before


@pytest.mark.parametrize("visitor", ACTORS, ids=str)
def test_who_may_act(visitor):
    """An action needs its permission and the sight of the list; whoever acts leaves a log entry."""
    label = visitor.label
    client = log_in(visitor)
    for action, right in MODELS[label].actions.items():
        row = target(label, action)
        LogEntry.objects.all().delete()
        before = snapshot(label)
        press(client, label, action, row.pk)
        if visitor.is_let_in and visitor.may_see and visitor.may((right,)):
            assert snapshot(label) != before
            entry = LogEntry.objects.get()
            assert (entry.object_id, entry.user.username) == (str(row.pk), "visitor")
        else:
            assert snapshot(label) == before


@pytest.mark.parametrize("label", MODELS)
def test_no_other_request_acts(label):
    """Not a GET, not a forged name or id, not a form of another site, even from a superuser."""
    client = log_in(Visitor(label, "superuser"))
    row = make(model_of(label))
    before = snapshot(label)
    page = address(label, "changelist")
    for action in MODELS[label].actions:
        client.get(page, {"action": action, "_selected_action": str(row.pk), "post": "yes"})
        for forged in FORGED_IDS.get(label, ["0", "99999999"]):
            assert press(client, label, action, forged).status_code in {OK, FOUND}
    unknown = {"delete_selected"} - set(MODELS[label].actions)
    for action in (*unknown, "log_deletion", "delete_queryset", "__init__", "_act", "", "0"):
        assert press(client, label, action, row.pk).status_code in {OK, FOUND}
    client.handler.enforce_csrf_checks = True
    for action in MODELS[label].actions:
        assert press(client, label, action, row.pk).status_code == FORBIDDEN
    for page in ("change", "delete"):
        assert client.post(address(label, page, row), {"post": "yes"}).status_code == FORBIDDEN
    assert client.post(address(label, "add")).status_code == FORBIDDEN
    assert snapshot(label) == before


def somebody(rights: frozenset[str]) -> Any:
    """Return a user of the staff with these permissions of this app, or a superuser."""
    user = get_user_model().objects.create_user(
        f"user {get_user_model().objects.count()}", is_staff=True, is_superuser=rights == ALL
    )
    names = {right.partition(".")[2] for right in rights - ALL}
    held = Permission.objects.filter(content_type__app_label="tasks_app", codename__in=names)
    assert len(held) == len(names)
    user.user_permissions.set(held)
    return user


#: Stands for every permission there is: a superuser.
ALL = frozenset({"*"})
VIEW = "tasks_app.view_outcome"
ACTING = frozenset(act.permission for act in ACTS.values())
ALL_RIGHTS = frozenset(f"tasks_app.{codename}" for codename, _ in Outcome._meta.permissions) | {
    VIEW
}

#: Kinds of users of the console, by their permissions; None: nobody is logged in.
KINDS: dict[str, frozenset[str] | None] = {
    "anonymous": None,
    "staff without rights": frozenset(),
    "view-only": frozenset({VIEW}),
    "operator": ACTING | {VIEW},
    "superuser": ALL,
}


@dataclass(frozen=True)
class Row:
    """
    A request to the console, and what it takes to be heard.

    Attributes:
        page: Name of its address, with its namespace.
        args: Makes what the address needs, and returns it.
        query: What follows the address.
        form: Makes what is acted on, and returns what is posted; None for a GET.
        rights: Permissions that are needed, all of them.
        refusal: What those get who lack one.
        door: What those get who are not logged in; None: they are sent to log in.
    """

    page: str
    args: Callable[[], list[Any]] = list
    query: str = ""
    form: Callable[[], dict[str, Any]] | None = None
    rights: frozenset[str] = frozenset({VIEW})
    refusal: int = FORBIDDEN
    door: int | None = None

    def send(self, client: Client) -> Any:
        """Send it to something new."""
        args = self.args()
        form = None if self.form is None else self.form()
        page = f"{reverse(self.page, args=args)}{self.query}"
        return page, form, (client.get(page) if form is None else client.post(page, form))

    def is_heard(self, rights: frozenset[str] | None) -> bool:
        return rights is not None and (rights == ALL or self.rights <= rights)


def bulk_action() -> BulkAction:
    """Return a bulk action that a superuser asked for."""
    failed(tasks.add.enqueue(1, 2))
    return bulk_actions.start(somebody(ALL), "replay", Selection())


def ticked(name: str) -> dict[str, Any]:
    """Return the list's form with one outcome ticked, as somebody sends it who does not ask."""
    row = target("tasks_app.outcome", name)
    return {
        "action": name,
        "_selected_action": [str(row.pk)],
        "index": "0",
        "post": "yes",
        "to_priority": "9",
    }


def everything(name: str) -> dict[str, Any]:
    """Return the form that acts on everything."""
    row = target("tasks_app.outcome", name)
    return {
        "action": name,
        "post": "yes",
        "selection": as_json(Selection()),
        "last_id": row.pk,
        "total": Outcome.objects.count(),
        "to_priority": "9",
    }


def kind_of_failure() -> str:
    """Return the fingerprint of a failure that there is."""
    outcome = failed(tasks.add.enqueue(1, 2))
    return Cause.objects.get(pk=outcome.pk).fingerprint


def traced() -> str:
    """Return the id of a request that enqueued something."""
    request_id = context.new_request_id()
    with context.working_for(request_id, None):
        make(Outcome)
    return request_id


def queue_to(act: str) -> dict[str, Any]:
    """Return the form that pauses a queue which works, or resumes one that is paused."""
    queues.resume("mail")
    if act == "resume":
        queues.pause("mail")
    return {"act": act, "queue": "mail"}


def job_that(stands: str) -> list[Any]:
    """Return the key of a new periodic job of each hour that is enabled, or paused."""
    job = make(PeriodicTask)
    hourly, _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    rows = PeriodicTask.objects.filter(pk=job.pk)
    rows.update(interval=hourly, enabled=stands == "is enabled")
    return [job.pk]


PAUSING = frozenset({VIEW, "tasks_app.pause_queue"})

#: Every page and every act of the console: a row for each way to ask for it.
CONSOLE: dict[str, Row] = {
    "bulk actions": Row("admin:tasks_app_bulk"),
    "what may be done": Row("admin:tasks_app_bulk_confirm"),
    "one bulk action": Row("admin:tasks_app_bulk_action", args=lambda: [bulk_action().pk]),
    "dashboard": Row("admin:tasks_app_dashboard"),
    "workers": Row("admin:tasks_app_workers"),
    "failures": Row("admin:tasks_app_failures"),
    "one kind of failure": Row("admin:tasks_app_failure", args=lambda: [kind_of_failure()]),
    "traces": Row("admin:tasks_app_traces"),
    "the trace of a request": Row("admin:tasks_app_trace", args=lambda: [traced()]),
    "outcomes about an object": Row("admin:tasks_app_subject", args=lambda: ["auth.user", "1"]),
    "periodic jobs": Row("admin:tasks_app_periodic"),
    "a periodic job": Row("admin:tasks_app_schedule", args=lambda: [make(PeriodicTask).pk]),
    "run a periodic job": Row(
        "admin:tasks_app_schedule",
        args=partial(job_that, "is enabled"),
        form=lambda: {"act": "run_now"},
        rights=frozenset({VIEW, "tasks_app.enqueue_outcome"}),
    ),
    "pause a periodic job": Row(
        "admin:tasks_app_schedule",
        args=partial(job_that, "is enabled"),
        form=lambda: {"act": "pause"},
        rights=frozenset({VIEW, "tasks_app.pause_schedule"}),
    ),
    "resume a periodic job": Row(
        "admin:tasks_app_schedule",
        args=partial(job_that, "is paused"),
        form=lambda: {"act": "resume"},
        rights=frozenset({VIEW, "tasks_app.pause_schedule"}),
    ),
    "backfill a periodic job": Row(
        "admin:tasks_app_schedule",
        args=partial(job_that, "is enabled"),
        form=lambda: {"act": "backfill", "since": "2026-01-01T00:00", "until": "2026-01-02T00:00"},
        rights=frozenset({VIEW, "tasks_app.backfill_schedule"}),
    ),
    "queues": Row("admin:tasks_app_queues"),
    "pause a queue": Row("admin:tasks_app_queues", form=partial(queue_to, "pause"), rights=PAUSING),
    "resume it": Row("admin:tasks_app_queues", form=partial(queue_to, "resume"), rights=PAUSING),
    "abort it": Row(
        "admin:tasks_app_bulk_action",
        args=lambda: [bulk_action().pk],
        form=dict,
        rights=frozenset({VIEW, "tasks_app.replay_outcome"}),
    ),
}
for name, act in ACTS.items():
    needed = frozenset({VIEW, act.permission})
    CONSOLE |= {
        f"{name}: is asked": Row(
            "admin:tasks_app_bulk_confirm", query=f"?action={name}", rights=needed
        ),
        f"{name}: what is ticked": Row(
            "admin:tasks_app_bulk_confirm", form=partial(ticked, name), rights=needed
        ),
        f"{name}: everything": Row(
            "admin:tasks_app_bulk_confirm", form=partial(everything, name), rights=needed
        ),
    }


def what_acts_change() -> list[Any]:
    """Return every row that an act of the console could have changed."""
    tables = (Outcome, BulkAction, PausedQueue, PeriodicTask, Slot, Timer, LogEntry)
    return [list(model._base_manager.order_by("pk").values()) for model in tables]


@pytest.mark.parametrize("label", CONSOLE)
def test_who_is_heard_in_the_console(label):
    """Each kind of user × each page and act: a refusal changes nothing, an act has its history."""
    row = CONSOLE[label]
    missing = {f"all but {right}": (ALL_RIGHTS - {right}) for right in row.rights}
    for kind, rights in {**KINDS, **missing}.items():
        client = Client()
        user = None if rights is None else somebody(rights)
        if user is not None:
            client.force_login(user)
        page, form, response = row.send(client)
        if user is None and row.door is None:
            assert response.headers.get("Location", "").startswith("/admin/login/"), kind
        elif not row.is_heard(rights):
            assert response.status_code == (row.refusal if user else row.door), kind
        else:
            assert response.status_code in {OK, FOUND}, kind
        acted = LogEntry.objects.filter(user=user).exists() if user else False
        assert acted == (row.is_heard(rights) and form is not None), kind
        if not acted:
            before = what_acts_change()
            client.get(page) if form is None else client.post(page, form)
            assert what_acts_change() == before, kind


@pytest.mark.parametrize("label", [label for label, row in CONSOLE.items() if row.form])
def test_another_sites_form_is_not_heard_in_the_console(label):
    """Not even from a superuser."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(somebody(ALL))
    page, form, response = CONSOLE[label].send(client)
    before = what_acts_change()
    assert response.status_code == FORBIDDEN
    assert client.post(page, form).status_code == FORBIDDEN
    assert what_acts_change() == before


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_page_of_the_console_is_in_the_table(page):
    """A page has a row for looking, and one for each that acts."""
    rows = [row for row in CONSOLE.values() if row.page == f"admin:tasks_app_{page.name}"]
    assert any(row.form is None for row in rows)
    assert any(row.form for row in rows) == (page.post is not Page.post)


def test_each_model_of_the_admin_is_in_the_table():
    """A model that somebody registers is not open before somebody has said for whom."""
    assert {model._meta.label_lower for model in admin.site._registry} == set(MODELS)


@pytest.mark.parametrize("label", MODELS)
def test_each_action_and_address_of_a_model_is_in_the_table(label):
    """An action or page that somebody adds is not open before somebody has said for whom."""
    model_admin = admin.site._registry[model_of(label)]
    request = RequestFactory().get("/")
    request.user = get_user_model()(is_superuser=True, is_staff=True, is_active=True)
    assert set(model_admin.get_actions(request)) == set(MODELS[label].actions)
    name = label.replace(".", "_")
    pages = {f"{name}_{page}" for page in ("changelist", "add", "history", "delete", "change")}
    found = {pattern.name for pattern in model_admin.urls} - {None}
    assert found == pages | MODELS[label].more_addresses


@pytest.mark.parametrize("name", SITE)
def test_who_may_see_the_pages_of_the_site_itself(name):
    """Nothing but the door opens to those who are no staff."""
    arguments, expected = SITE[name]
    page = reverse(f"admin:{name}", args=arguments)
    clients = []
    for number, is_staff in enumerate((None, False, True)):
        client = Client()
        if is_staff is not None:
            made = get_user_model().objects.create_user(f"u{number}", is_staff=is_staff)
            client.force_login(made)
        clients.append(client)
    assert tuple(client.get(page).status_code for client in clients) == expected


def test_each_address_of_the_site_itself_is_in_the_table():
    """A page that Django or a project adds to the admin has to be judged."""
    patterns = admin.site.get_urls()
    own = {each.name for each in patterns if isinstance(each, URLPattern)} - {None}
    assert own == set(SITE)


@pytest.mark.parametrize("urlconf", ["tests.urls", "example_project.urls"])
def test_each_address_of_the_projects_is_in_the_table(urlconf):
    """Nothing is served beside the admin but what the table names."""
    found = {name for name in addresses(get_resolver(urlconf)) if not name.startswith("admin:")}
    own = {row.page for row in CONSOLE.values() if not row.page.startswith("admin:")}
    example = OPEN_PAGES if urlconf.startswith("example") else set()
    assert found == {*MONITORS, *WAITERS} | own | example


@pytest.mark.parametrize("name", MONITORS)
def test_who_may_see_the_pages_for_monitors(name, settings):
    """Probes are open; the metrics are for staff who may see outcomes, and for the token."""
    settings.TASKS_APP = {"METRICS_TOKEN": TOKEN}
    visitors = {
        "anonymous": Visitor("tasks_app.outcome", "anonymous"),
        "member": Visitor("tasks_app.outcome", "member with every right"),
        "staff": Visitor("tasks_app.outcome", "staff for all other models"),
        "viewer": Visitor("tasks_app.outcome", "viewer", frozenset({"tasks_app.view_outcome"})),
    }
    seen = {}
    for who, visitor in visitors.items():
        seen[who] = log_in(visitor).get(reverse(name), REMOTE_ADDR="127.0.0.1").status_code
        get_user_model().objects.all().delete()
    for who, header in HEADERS.items():
        seen[who] = Client().get(reverse(name), headers={"Authorization": header}).status_code
    assert seen == dict.fromkeys(seen, OK) | MONITORS[name]
    assert Client().post(reverse(name)).status_code == WRONG_METHOD


@pytest.mark.parametrize(
    "visitor",
    [
        *strangers("tasks_app.outcome"),
        *holders("tasks_app.outcome"),
        Visitor("tasks_app.outcome", "owner"),
        Visitor("tasks_app.outcome", "superuser"),
    ],
    ids=str,
)
def test_who_may_see_the_pages_for_who_waits(visitor):
    """Staff or not: its owner, whom a permission lets in, and for all others there is nothing."""
    row, client = make(Outcome), log_in(visitor)
    if visitor.name == "owner":
        Outcome.objects.update(owner=get_user_model().objects.get())
    before = snapshot("tasks_app.outcome")
    for name, rights in WAITERS.items():
        has_all = visitor.name in {"owner", "superuser", "member with every right"}
        method = client.post if name.endswith("cancel") else client.get
        answer = method(reverse(name, args=[row.pk]))
        missing = method(reverse(name, args=[uuid4()]))
        assert missing.status_code == MISSING
        if has_all or rights & visitor.rights:
            assert answer.status_code in {OK, ACCEPTED}
            continue
        assert (answer.status_code, answer.content) == (MISSING, missing.content)
        assert snapshot("tasks_app.outcome") == before


def test_without_a_token_none_opens_the_metrics():
    """Not the word None, and not nothing."""
    for header in ("Bearer ", "Bearer None", "Bearer", "bearer  "):
        page = Client().get(reverse("tasks_app:metrics"), headers={"Authorization": header})
        assert page.status_code == UNAUTHORIZED


def addresses(resolver: URLResolver, space: str = "") -> list[str]:
    """Return the names of all addresses below a resolver, with their namespaces."""
    names = []
    for each in resolver.url_patterns:
        if isinstance(each, URLResolver):
            inner = f"{space}{each.namespace}:" if each.namespace else space
            names += addresses(each, inner)
        else:
            names.append(f"{space}{each.name}")
    return names


@pytest.mark.urls("example_project.urls")
def test_the_example_starts_work_only_by_its_own_form():
    """Another site's form cannot start a job, and a link cannot either."""
    example = import_module("example_project.settings")
    assert "django.middleware.csrf.CsrfViewMiddleware" in example.MIDDLEWARE
    client, start = Client(enforce_csrf_checks=True), reverse("dispatch:start")
    with override_settings(MIDDLEWARE=example.MIDDLEWARE):
        assert client.get(start).status_code == WRONG_METHOD
        assert client.post(start).status_code == FORBIDDEN
    assert not Job.objects.exists()


def test_autocomplete_tells_nobody_about_rows_that_he_may_not_see():
    """The search behind the admin's fields asks for the permission to view the rows."""
    asked = {"app_label": "tasks_app", "model_name": "outcome", "field_name": "owner", "term": "a"}
    page = reverse("admin:autocomplete")
    for name, status in (("staff", FORBIDDEN), (STRANGERS[-1], FORBIDDEN), ("superuser", OK)):
        assert log_in(Visitor("auth.user", name)).get(page, asked).status_code == status
        get_user_model().objects.all().delete()


class OwnAdmin(PeriodicTaskAdmin):
    """Stands for an admin of schedules that a project wrote."""


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (None, CheckedPeriodicTaskAdmin),
        (PeriodicTaskAdmin, CheckedPeriodicTaskAdmin),
        (OwnAdmin, OwnAdmin),
    ],
)
def test_only_the_unchecked_admin_of_schedules_is_replaced(there, expected):
    """A project that has its own keeps it, whatever the order of `INSTALLED_APPS`."""
    site = admin.AdminSite("another")
    if there is not None:
        site.register(PeriodicTask, there)
    replace_unchecked(site)
    assert type(site._registry[PeriodicTask]) is expected


def test_a_schedule_of_an_unknown_task_is_not_run():
    """What nobody registers is told to the user; nothing is enqueued and nothing is logged."""
    row = make(PeriodicTask)
    PeriodicTask.objects.filter(pk=row.pk).update(task="tests.gone")
    label = "django_celery_beat.periodictask"
    before = snapshot(label)
    press(log_in(Visitor(label, "superuser")), label, "run_tasks", row.pk)
    assert snapshot(label) == before
