"""What the sources must not contain: ways to run data as code, or to send it out as markup."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tasks_app.celery import app

ROOT = Path(__file__).parents[2]
FOLDERS = ("tasks_app", "example_project")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TEMPLATES = sorted(
    path for folder in FOLDERS for path in (ROOT / folder).rglob("templates/**/*") if path.is_file()
)

#: Names that nothing here calls or imports.
FORBIDDEN = {
    *("mark_safe", "SafeString", "SafeText", "html_safe", "eval", "exec", "compile"),
    *("pickle", "cPickle", "dill", "shelve", "marshal", "yaml", "system", "popen", "getoutput"),
}

#: A builtin, but also what patterns and queries are made by.
METHODS = {"compile"}

#: The one text without markup: a mail in plain text, where escaping would show.
PLAIN_TEXTS = {"briefing.txt"}


def names(module: ast.Module) -> set[str]:
    """Return what a module imports and uses, by the last part of each name."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.name.partition(".")[0] for alias in node.names}
            found.add((getattr(node, "module", None) or "").partition(".")[0])
        elif isinstance(node, ast.Attribute) and node.attr not in METHODS:
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.keyword) and node.arg == "shell":
            found.add("shell=")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_runs_data_or_declares_it_safe(path):
    """No shell, no pickle, no YAML, no evaluation, and no text that escapes escaping."""
    assert not names(ast.parse(path.read_text())) & {*FORBIDDEN, "shell="}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_template_switches_escaping_off(path):
    """Each page is escaped by Django, from its first character to its last."""
    text = path.read_text()
    assert "|safe" not in text.replace(" ", "")
    assert ("autoescape off" in text) == (path.name in PLAIN_TEXTS)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from django.utils.safestring import mark_safe", "mark_safe"),
        ("import pickle", "pickle"),
        ("subprocess.run('x', shell=True)", "shell="),
        ("eval(text)", "eval"),
        ("os.system(text)", "system"),
    ],
)
def test_what_is_forbidden_is_found(source, found):
    """The search itself sees each way to write it."""
    assert names(ast.parse(source)) & {*FORBIDDEN, "shell="} == {found}


def test_each_test_that_the_page_names_is_there():
    """Whoever reads that a threat is tried finds where."""
    folder = Path(__file__).parent
    page = (ROOT / "docs" / "explanation" / "security.md").read_text()
    named = re.findall(r"`(test_\w+)`", page)
    assert named
    assert not [name for name in named if not (folder / f"{name}.py").exists()]
    elsewhere = re.findall(r"`(tests/[\w/]+\.py)`", page)
    assert not [path for path in elsewhere if not (ROOT / path).exists()]


def test_only_json_is_written_and_read():
    """The worker refuses every other content before it looks inside."""
    conf = app.conf
    assert set(conf.accept_content) == {"json"}
    assert set(conf.result_accept_content or conf.accept_content) == {"json"}
    assert {conf.task_serializer, conf.result_serializer} == {"json"}
