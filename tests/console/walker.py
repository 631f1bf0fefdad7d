"""
What is looked for on every page, whoever made it: faults that a reader of the code does not see.

Each look returns what is wrong, one line per fault, so that a failing test says where to look.
Whatever Django's own admin does wrong is named below, with the reason why it is borne.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.console.stage import Stage

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")

#: From a telephone to a wall.
WIDTHS = (360, 1400, 3840)

#: Impacts that are faults here.
GRAVE = ("serious", "critical")

#: Rule of axe → selectors of what may break it, and why.
BORNE: dict[str, tuple[Sequence[str], str]] = {
    "link-in-text-block": (
        (".breadcrumbs", '.small > a[href="?"]'),
        "Django tells links in its breadcrumbs and beside its search field by colour alone",
    ),
    "label-title-only": (
        ("#searchbar",),
        "Django labels its search field with a picture of a magnifying glass",
    ),
}

#: What the browser asks for by itself; Django's admin names no icon.
UNASKED = "/favicon.ico"

#: Colours that are half-way to others would be judged as they are in that moment, what is replaced
#: by its newer self cannot be come to, and the rows at a long table's end are like those before.
HOLD_STILL = """
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(`
        *, *::before, *::after { transition: none !important; animation: none !important; }
        tbody > tr:nth-child(n + 16) { display: none !important; }
    `);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    document.querySelectorAll("[data-live]").forEach((each) => each.removeAttribute("data-live"));
"""

RUN_AXE = """
    const done = arguments[arguments.length - 1];
    axe.run(document, {resultTypes: ["violations"], preload: false}).then(
        (results) => done(results.violations.flatMap((violation) => violation.nodes.map((node) => ({
            rule: violation.id,
            impact: node.impact || violation.impact,
            target: node.target.join(" "),
            html: node.html.slice(0, 200),
            told: node.failureSummary,
        })))),
        (error) => done([
            {rule: "axe", impact: "critical", target: "", html: "", told: `${error}`},
        ]),
    );
"""

#: Everything that Tab should come to; of a group of radio buttons it comes to one.
LISTEN = """
    const wanted = "a[href], button, input, select, textarea, summary, [tabindex]";
    const isThere = (each) => each.checkVisibility({visibilityProperty: true})
        && each.tabIndex >= 0 && !each.disabled;
    const look = (each) => {
        const style = getComputedStyle(each);
        return [style.outlineStyle, style.outlineWidth, style.outlineColor, style.boxShadow,
            style.borderColor, style.backgroundColor, style.color, style.textDecorationLine].join();
    };
    window.walk = {look, focused: new Map(), wanted: [...document.querySelectorAll(wanted)]
        .filter((each) => isThere(each) && each.type !== "radio")};
    document.addEventListener("focusin", (event) => {
        window.walk.focused.set(event.target, look(event.target));
    });
    document.activeElement.blur();
    // Tab stops at each part of a time, and at its calendar.
    const times = document.querySelectorAll("input[type=datetime-local]").length;
    return window.walk.wanted.length + 8 * times;
"""

COMPARE = """
    document.activeElement.blur();
    const {look, focused, wanted} = window.walk;
    const told = (each) => each.outerHTML.slice(0, 160);
    return [
        ...wanted.filter((each) => !focused.has(each))
            .map((each) => `Tab does not come to ${told(each)}`),
        ...[...focused].filter(([each, seen]) => each.isConnected && look(each) === seen)
            .map(([each]) => `focus does not show on ${told(each)}`),
    ];
"""

MEASURE = """
    const page = document.documentElement;
    const width = Math.max(page.scrollWidth, document.body.scrollWidth);
    if (width <= page.clientWidth) return [];
    const clips = (each) => getComputedStyle(each).overflowX !== "visible";
    const isClipped = (each) => each !== document.body
        && (clips(each) || isClipped(each.parentElement));
    const wide = [...document.querySelectorAll("body *")].filter((each) => !isClipped(each)
        && each.getBoundingClientRect().left + each.scrollWidth > page.clientWidth + 1);
    return [`${width} of ${page.clientWidth} px: `
        + wide.slice(-3).map((each) => each.outerHTML.slice(0, 120)).join(" … ")];
"""


def console_errors(stage: Stage) -> list[str]:
    """Return what the browser complained of since the last look, such as a broken policy."""
    entries: Any = stage.browser.get_log("browser")
    messages = [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
    return [message for message in messages if UNASKED not in message]


def too_wide(stage: Stage, width: int) -> list[str]:
    """Return what makes the whole page scroll sideways at a width."""
    stage.resize(width)
    return [f"{width} px: {each}" for each in stage.browser.execute_script(MEASURE)]


def prepare(stage: Stage) -> None:
    """Make a page ready for the looks below, once its whole width has been measured."""
    stage.browser.execute_script(HOLD_STILL)


def violations(stage: Stage, theme: str, width: int) -> list[str]:
    """Return what axe-core finds grave in a theme at a width."""
    stage.emulate(theme)
    stage.resize(width)
    if not stage.browser.execute_script("return 'axe' in window"):
        stage.browser.execute_script(AXE)
    found = stage.browser.execute_async_script(RUN_AXE)
    return [
        f"{theme}, {width} px: {each['rule']} at {each['target']}: {each['html']}\n{each['told']}"
        for each in found
        if each["impact"] in GRAVE and not is_borne(each)
    ]


def is_borne(violation: dict[str, str]) -> bool:
    """Tell whether something breaks a rule that it may break."""
    selectors, _why = BORNE.get(violation["rule"], ((), ""))
    return any(selector in violation["target"] for selector in selectors)


def out_of_reach(stage: Stage) -> list[str]:
    """Return what the Tab key does not come to, and where the focus cannot be seen."""
    wanted = stage.browser.execute_script(LISTEN)
    ActionChains(stage.browser).send_keys(Keys.TAB * (wanted + 5)).perform()
    return list(stage.browser.execute_script(COMPARE))
