"""
Every page and every act of the console, in a real browser, on the example project.

One browser and one scene serve the whole module. What must hold on each page is asked of each page
of the table; an act is pressed by its button and its effect read from the database.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from selenium.webdriver.common.by import By

from tests.console import walker
from tests.console.acts import ACTS, PATIENCE
from tests.console.pages import PAGES
from tests.console.scene import SECRET
from tests.console.stage import Stage, open_stage
from tests.waiting import wait_until

#: Says that there has to be a database; what each test does to it is the fixture's below.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def _django_db_helper() -> None:
    """Stand in for pytest-django's own, which empties the tables after each test."""


@pytest.fixture(scope="module")
def stage(django_db_setup: None, django_db_blocker) -> Iterator[Stage]:
    """The example project with a scene, and a browser before it; the tables are left empty."""
    with django_db_blocker.unblock():
        try:
            with open_stage(for_tests=True) as opened:
                yield opened
        finally:
            call_command("flush", verbosity=0, interactive=False)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_bears_a_close_look(stage, page):
    """
    It is there, for every eye, hand and screen.

    No error in the console, nothing against the policy, nothing grave for axe-core in light and
    dark, no sideways scrolling from 360 px to 4K, and the keyboard comes to everything and shows
    where it is.
    """
    stage.resize(1400)
    stage.open(page.address(stage.facts))
    assert walker.console_errors(stage) == []
    assert SECRET not in stage.browser.page_source
    faults = [fault for width in walker.WIDTHS for fault in walker.too_wide(stage, width)]
    walker.prepare(stage)
    faults += [
        *walker.violations(stage, "light", 1400),
        *walker.violations(stage, "dark", 360),
        *walker.out_of_reach(stage),
        *walker.console_errors(stage),
    ]
    assert faults == [], "\n".join(faults)


@pytest.mark.parametrize("act", ACTS, ids=str)
def test_an_act_does_what_its_button_says(stage, act):
    """The hand presses it, the row has changed, the page says so, and the history keeps it."""
    stage.resize(1400)
    logged = LogEntry.objects.count()
    stage.open(act.page.address(stage.facts))
    for step in act.steps:
        step.do(stage)
    wait_until(lambda: act.is_done(stage.facts), PATIENCE, lambda: stage.browser.page_source)
    body = (By.TAG_NAME, "body")
    wait_until(lambda: act.told in stage.browser.find_element(*body).text, PATIENCE, act.told)
    assert LogEntry.objects.count() == logged + act.entries
    assert walker.console_errors(stage) == []


#: One fault for each look: an inline style, a field without a label, a button that nobody sees
#: focused, a field that keeps the focus to itself, and a line that is too long.
FAULTY = """
    document.body.innerHTML = `<main>
        <p style="margin: 1px">inline</p>
        <button class="unseen">unseen</button><input type="text"><a href="#">beyond</a>
        <div class="wide">wide</div>
    </main>`;
    document.querySelector("input").addEventListener("keydown", (event) => event.preventDefault());
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(".unseen { all: unset !important } .wide { width: 5000px }");
    document.adoptedStyleSheets = [sheet];
"""


def test_the_looks_see_what_is_wrong(stage):
    """A page with one fault of each kind passes none of the looks."""
    stage.open("/admin/password_change/")
    stage.browser.execute_script(FAULTY)
    assert "Content Security Policy" in "".join(walker.console_errors(stage))
    assert "1400 px: 50" in "".join(walker.too_wide(stage, 1400))
    walker.prepare(stage)
    assert "label at input" in "".join(walker.violations(stage, "light", 1400))
    told = walker.out_of_reach(stage)
    assert any(line.startswith("focus does not show on <button") for line in told)
    assert any(line.startswith("Tab does not come to <a") for line in told)
