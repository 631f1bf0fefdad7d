"""The Tasks panel on the pages of a project's own admin, and the page of one object."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Permission
from django.db import connection
from django.template import Context, Template
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse

from tasks_app.admin import TasksPanel
from tasks_app.models import Outcome, Subject
from tests.integration.command_line import failed
from tests.testapp.models import Account
from tests.testapp.tasks import add

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class OwnPageAdmin(TasksPanel, admin.ModelAdmin):
    """Stands for a project's admin class whose page is the project's."""

    change_form_template = "testapp/own_change_form.html"


class PanelAdmin(TasksPanel, admin.ModelAdmin):
    """An admin of accounts with the panel."""


site = admin.AdminSite("back-office")
site.register(Account, PanelAdmin)
own = admin.AdminSite("own-pages")
own.register(Account, OwnPageAdmin)
urlpatterns = [
    path("admin/", admin.site.urls),
    path("office/", site.urls),
    path("own/", own.urls),
]


def staff(*rights: str) -> Client:
    user = get_user_model().objects.create_user("somebody", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def account() -> Account:
    return Account.objects.create(name="an account")


@pytest.fixture
def clerk() -> Client:
    """Somebody who may change accounts and view outcomes."""
    return staff("change_account", "view_outcome")


def page(account: Account, place: str = "office") -> str:
    return f"/{place}/testapp/account/{account.pk}/change/"


def own_statements(client: Client, address: str) -> list[str]:
    """Return what a page asks of the app's own tables."""
    client.get(address)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    return [query["sql"] for query in captured.captured_queries if "tasks_app_" in query["sql"]]


def about(account: Account, count: int) -> list[Outcome]:
    return [add.using(about=account).enqueue(number, 1) for number in range(count)]


def test_the_newest_outcomes_about_an_object_are_on_its_page(clerk, account):
    """Those of other objects are not."""
    other = Account.objects.create(name="another")
    done, first, *_ = about(account, 22)
    strange = about(other, 1)[0]
    failed(first, error="<b>no</b>")
    text = clerk.get(page(account)).content.decode()
    assert text.count('<th scope="row">') == 20
    assert str(strange.pk) not in text
    assert str(done.pk) not in text
    assert 'name="balance"' in text  # the form is there, too
    link = reverse("admin:tasks_app_subject", args=["testapp.account", account.pk])
    assert f'href="{link}">All tasks' in text
    everything = clerk.get(link).content.decode()
    assert str(done.pk) in everything
    assert "&lt;b&gt;no&lt;/b&gt;" in everything


def test_the_page_of_an_object_goes_back_in_time(clerk, account, monkeypatch):
    """From newer to older ones, by what was enqueued before."""
    monkeypatch.setattr("tasks_app.admin.subject.ON_PAGE", 2)
    ids = [str(outcome.pk) for outcome in about(account, 3)]
    link = reverse("admin:tasks_app_subject", args=["testapp.Account", account.pk])
    newest = clerk.get(link)
    older = clerk.get(link + newest.context_data["older"])
    assert [pk in newest.content.decode() for pk in ids] == [False, True, True]
    assert [pk in older.content.decode() for pk in ids] == [True, False, False]
    assert not older.context_data["older"]
    for odd in ("x", "-1", "9" * 400, "\u0663", ""):
        assert clerk.get(link, {"before": odd}).status_code == 200


def test_one_statement_and_none_for_those_who_may_not_see_it(clerk, account):
    """However many there are; it goes through the index."""
    about(account, 1)
    few = own_statements(clerk, page(account))
    about(account, 30)
    assert len(own_statements(clerk, page(account))) == len(few) == 1
    rows = Subject.objects.filter(model="testapp.account", object_pk="1").order_by("-pk")[:20]
    if connection.vendor != "postgresql":
        assert "tasks_subject_object" in rows.explain()


def test_those_who_may_not_view_outcomes_have_the_page_as_it_was(account):
    """Without the panel, and without a statement."""
    about(account, 1)
    client = staff("change_account")
    assert own_statements(client, page(account)) == []
    assert "tasks-panel" not in client.get(page(account)).content.decode()
    assert (
        client.get(f"/admin/tasks_app/outcome/about/testapp.account/{account.pk}/").status_code
        == 403
    )


def test_a_page_of_the_projects_own_keeps_its_template(clerk, account):
    """The panel is added to it."""
    about(account, 1)
    text = clerk.get(page(account, "own")).content.decode()
    assert "a page of our own" in text
    assert text.index("a page of our own") < text.index("tasks-panel-title")


def test_a_template_can_include_the_panel_itself(account):
    """On any page whose context has the request."""
    (outcome,) = about(account, 1)
    request = RequestFactory().get("/")
    request.user = get_user_model().objects.create_superuser("root")
    request.resolver_match = None
    template = Template("{% load tasks_panel %}{% tasks_panel object %}")
    shown = template.render(Context({"request": request, "object": account}))
    assert str(outcome.pk) in shown
    assert template.render(Context({"request": request, "object": None})).strip() == ""
    request.user = AnonymousUser()
    assert template.render(Context({"request": request, "object": account})).strip() == ""


def test_a_project_without_the_console_in_its_urls_has_the_panel_without_links(clerk, account):
    """Its pages do not break."""
    about(account, 1)
    with override_settings(ROOT_URLCONF="tests.testapp.office"):
        text = clerk.get(page(account)).content.decode()
    assert "add" in text
    assert "/outcome/" not in text


def test_a_new_object_has_no_panel():
    """There is nothing yet to be about."""
    client = staff("add_account", "view_outcome")
    assert "tasks-panel" not in client.get("/office/testapp/account/add/").content.decode()


@pytest.mark.parametrize(
    "place",
    ["testapp.nothing/1", "nowhere/1", "a.b.c/1", "testapp.account/" + "9" * 256, "auth.user/%00"],
)
def test_what_is_no_object_has_no_page(clerk, place):
    """Neither a model that does not exist nor a key that cannot be one."""
    assert clerk.get(f"/admin/tasks_app/outcome/about/{place}/").status_code == 404


def test_a_hostile_key_is_a_key_and_no_more(clerk):
    """It finds nothing and is shown as text."""
    key = "' OR 1=1 --<script>"
    address = reverse("admin:tasks_app_subject", args=["testapp.account", key])
    text = clerk.get(address).content.decode()
    assert "No task is about this object" in text
    assert "--<script>" not in text
