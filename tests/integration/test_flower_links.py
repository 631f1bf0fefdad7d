"""
From a task in Flower to its outcome in the admin and back, in a real browser.

Flower and Django stand behind one proxy, each below a prefix, so a link that forgets where it
is leads nowhere. What is clicked here is what an operator clicks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tasks_app.models import Outcome
from tests.browser import open_browser
from tests.integration.reverse_proxy import ReverseProxy
from tests.processes import READY_TIMEOUT, ROOT, Process, launch
from tests.security.sinks import answer
from tests.servers.server import free_port
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

SETTINGS = """
from tests.settings import *

FORCE_SCRIPT_NAME = "/office"
TASKS_APP = {"FLOWER_URL": "/shop/flower/"}
"""

SECRET = "tok_canary_5151"


@dataclass
class Site:
    """What an operator sees: one address, and below it Flower and the admin."""

    url: str
    browser: Chrome
    flower: Process

    def open(self, path: str) -> None:
        self.browser.get(f"{self.url}{path}")

    def find(self, selector: str) -> list[Any]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, condition: Callable[[], Any]) -> Any:
        return wait_until(condition, READY_TIMEOUT, lambda: self.browser.page_source[-3000:])

    def click(self, selector: str) -> None:
        """Click the one element that a selector finds, once it is there."""
        self.wait(lambda: len(self.find(selector)) == 1)
        self.find(selector)[0].click()

    def text(self) -> str:
        return str(self.browser.find_element(By.TAG_NAME, "body").text)


@pytest.fixture(scope="module")
def site(django_db_setup: None, tmp_path_factory: Any) -> Iterator[Site]:
    """A worker, Flower and Django behind a proxy, and a browser before it."""
    folder: Path = tmp_path_factory.mktemp("site")
    (folder / "proxied.py").write_text(SETTINGS)
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = {"DJANGO_SETTINGS_MODULE": "proxied", "PYTHONPATH": path}
    flower_port, web_port = free_port(), free_port()
    flower_words = ("flower", f"--port={flower_port}", "--url_prefix=shop/flower")
    web_words = ("runserver", "--noreload", "--insecure", f"127.0.0.1:{web_port}")
    routes = {"/shop/flower": (flower_port, ""), "/office": (web_port, "/office")}
    # Events from the first run on: Flower asks for them only every few seconds.
    worker_words = ("worker", "--hostname", "seen@%h", "--concurrency", "2", "--task-events")
    programs = {
        "flower": ("celery", "-A", "tasks_app", *flower_words),
        "web": ("django", *web_words),
        "worker": ("celery", "-A", "tasks_app", *worker_words),
    }
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(launch(folder, name, words, environment))
            for name, words in programs.items()
        }
        proxy = stack.enter_context(ReverseProxy(routes))
        browser = stack.enter_context(open_browser())
        flower, web = started["flower"], started["web"]
        page = f"{proxy.url}/office/admin/login/"
        wait_until(lambda: read(page), READY_TIMEOUT, web.tail)
        page = f"{proxy.url}/shop/flower/workers"
        wait_until(lambda: "seen@" in read(page), READY_TIMEOUT, flower.tail)
        yield Site(proxy.url, browser, flower)


def read(page: str) -> str:
    """Return a page once it is there."""
    status, text = answer(page)
    return text if status == 200 else ""


@pytest.fixture
def operator(site: Site) -> Site:
    """Log an operator in to the admin, and come as they do."""
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("operator"))
    site.open("/shop/flower/")
    cookie = client.cookies["sessionid"].value
    site.browser.add_cookie({"name": "sessionid", "value": cookie, "path": "/"})
    return site


@pytest.fixture
def outcomes(operator: Site) -> list[Outcome]:
    """A call that went well and one that failed, each of which Flower has seen to its end."""
    made = [
        tasks.add.enqueue(1, 2),
        tasks.charge.enqueue(7, card_token=SECRET, mood="fail"),
    ]
    for outcome in made:
        wait_until(lambda o=outcome: o.refresh() or o.is_final, READY_TIMEOUT, operator.flower.tail)
    wait_until(
        lambda: answer(f"{operator.url}/shop/flower/task/{made[1].pk}")[1].count("FAILURE"),
        READY_TIMEOUT,
        operator.flower.tail,
    )
    return made


def test_an_operator_goes_from_the_list_to_an_outcome_and_back(operator, outcomes, tmp_path):
    """Every row leads to its own outcome, and the outcome's page leads back to the task."""
    operator.open("/shop/flower/tasks")
    for outcome in outcomes:
        row = f'tr[id="{outcome.pk}"]'
        operator.wait(lambda: len(operator.find(f"{row} a.outcome-link")) == 1)  # noqa: B023
    assert SECRET not in operator.browser.page_source
    heading, uuid = (operator.find(each)[0] for each in ("th[data-column=uuid]", f"{row} td + td"))
    operator.wait(lambda: abs(heading.rect["x"] - uuid.rect["x"]) < 2)
    picture = tmp_path / "tasks.png"
    assert operator.browser.save_screenshot(str(picture))
    assert picture.stat().st_size > 10_000
    in_admin = f"{operator.url}/office/admin/tasks_app/outcome/{outcome.pk}/change/"
    in_flower = f"{operator.url}/shop/flower/task/{outcome.pk}"
    operator.click(f"{row} a.outcome-link")
    operator.wait(lambda: operator.browser.current_url == in_admin)
    assert outcome.task_name in operator.text()
    operator.click('.object-tools a[href*="/flower/"]')
    operator.wait(lambda: operator.browser.current_url == in_flower)
    assert str(outcome.pk) in operator.text()
    assert SECRET not in operator.browser.page_source
    operator.click("a.outcome-link.btn")
    operator.wait(lambda: operator.browser.current_url == in_admin)


def test_a_table_that_is_drawn_again_keeps_one_link_in_each_row(operator, outcomes):
    """Flower fills its table anew for every page, order and search."""
    operator.open("/shop/flower/tasks")
    for _ in range(2):
        operator.wait(lambda: operator.find("tr[id] a.outcome-link"))
        operator.click('.task-state-filter[data-task-state="SUCCESS"]')
        good, bad = (f'tr[id="{outcome.pk}"]' for outcome in outcomes)
        operator.wait(lambda r=bad: not operator.find(r))
        assert len(operator.find(f"{good} a.outcome-link")) == 1
        operator.click('.task-state-filter[data-task-state=""]')
        operator.wait(lambda r=bad: operator.find(r))


def test_no_button_that_commands_is_shown(operator):
    """What is refused is not offered."""
    operator.open("/shop/flower/workers")
    operator.click('a[href*="/worker/seen"]')
    operator.wait(lambda: "/worker/seen" in operator.browser.current_url)
    assert not operator.find(
        "#worker-shutdown, #worker-pool-grow, #worker-pool-shrink, #worker-pool-autoscale"
    )
    shown = " ".join(each.get_attribute("outerHTML") for each in operator.find("button"))
    assert not [word for word in ("Shut", "Grow", "Shrink", "Cancel") if word in shown], shown


@pytest.mark.parametrize("name", ["x", "..%2f..%2fevil", "%2f%2fevil.example", "0" * 36])
def test_an_id_that_is_none_leads_nowhere(operator, name):
    """Only ids are passed on, so the address cannot be made to lead to another site."""
    assert answer(f"{operator.url}/shop/flower/outcome/{name}")[0] == 404
