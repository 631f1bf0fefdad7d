"""The addresses of an outcome: its page in the admin and its task in Flower."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import NoReverseMatch, set_script_prefix
from django.utils.html import escape

from tasks_app import addresses
from tests.testapp.tasks import add

ID = uuid4()
PAGE = f"tasks_app/outcome/{ID}/change/"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (None, f"/admin/{PAGE}"),
        ("https://shop.example", f"https://shop.example/admin/{PAGE}"),
        ("https://shop.example:8443/", f"https://shop.example:8443/admin/{PAGE}"),
        ("https://shop.example/office/", f"https://shop.example/office/{PAGE}"),
        ("/office", f"/office/{PAGE}"),
    ],
)
def test_the_admins_page_is_where_the_settings_and_the_urlconf_say(settings, given, address):
    """What the setting leaves out comes from the project's own URLconf."""
    settings.TASKS_APP = {"ADMIN_URL": given}
    assert addresses.admin_page(ID) == address


def test_a_prefix_of_the_whole_site_is_kept(settings):
    """As `FORCE_SCRIPT_NAME` sets it."""
    settings.TASKS_APP = {"ADMIN_URL": "https://shop.example"}
    set_script_prefix("/office/")
    try:
        assert addresses.admin_page(ID) == f"https://shop.example/office/admin/{PAGE}"
    finally:
        set_script_prefix("/")


def test_without_an_admin_there_is_no_page(settings):
    """Unless the setting tells where one is."""
    settings.ROOT_URLCONF = "django.contrib.auth.urls"
    with pytest.raises(NoReverseMatch):
        addresses.admin_page(ID)
    settings.TASKS_APP = {"ADMIN_URL": "https://shop.example/admin/"}
    assert addresses.admin_page(ID) == f"https://shop.example/admin/{PAGE}"


@pytest.mark.django_db
@pytest.mark.parametrize("given", ["https://ops.example/flower/", "/flower", "/a&b"])
def test_an_outcomes_page_leads_to_flower(settings, given):
    """Where the setting says that there is one; otherwise no link is shown."""
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("reader"))
    outcome = add.enqueue(1, 2)
    page = f"/admin/tasks_app/outcome/{outcome.pk}/change/"
    assert "Open in Flower" not in client.get(page).content.decode()
    settings.TASKS_APP = {"FLOWER_URL": given}
    address = escape(f"{given.rstrip('/')}/task/{outcome.pk}")
    assert f'<a href="{address}">Open in Flower</a>' in client.get(page).content.decode()
