"""Remote control: which of an app's classes get the seal, and which commands need none."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.app.control import Control as PlainControl

from tasks_app import control


class OwnControl(PlainControl):
    """What a project may have made of Celery's control."""

    def greet(self) -> str:
        return "hello"


@pytest.fixture
def app():
    """A Celery app of a project's own."""
    with Celery("own", set_as_current=False, broker="memory://") as app:
        yield app


def test_an_app_is_equipped_though_its_control_was_used_before(app):
    """A mailbox that somebody already had is no reason to leave commands unsigned."""
    assert not isinstance(app.control.mailbox, control.Mailbox)
    control.equip(app)
    assert isinstance(app.control, control.Control)
    assert isinstance(app.control.mailbox, control.Mailbox)


def test_a_projects_own_control_stays_what_it_is(app):
    """Its methods are kept, and its mailbox seals."""
    app.control_cls = OwnControl
    control.equip(app)
    assert app.control.greet() == "hello"
    assert isinstance(app.control.mailbox, control.Mailbox)


def test_an_app_that_names_the_class_itself_is_left_alone(app):
    """So the documented line and the automatic way agree."""
    app.control_cls = "tasks_app.control:Control"
    used = app.control
    control.equip(app)
    assert app.control is used


@pytest.mark.parametrize("command", sorted(control.OPEN))
def test_an_open_command_is_open_without_a_pattern(command):
    """A pattern is a regular expression of the sender's."""
    assert control.is_open({"method": command, "arguments": None})
    assert not control.is_open({"method": command, "pattern": "(a+)+", "matcher": "pcre"})
    assert not control.is_open({"method": command, "arguments": {"other": 1}})
