"""`@periodic`: what is wrong with a declaration is told where it stands, with the remedy."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

import tasks_app.periodic
from tasks_app import every, periodic
from tasks_app.exceptions import ConfigurationError
from tasks_app.periodic import Missed, declaring, solar
from tasks_app.periodic.declaring import declared_by_name, schedule_of
from tests.testapp.tasks import add, charge

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """Forget what the test declares."""
    monkeypatch.setattr(declaring, "declarations", [])


def only():
    """Return the one declaration."""
    (declared,) = declared_by_name().values()
    return declared


@pytest.mark.parametrize(
    ("when", "options", "expected"),
    [
        ("*/5  * * * mon", {}, {"crontab": ["*/5", "*", "*", "*", "mon", "Asia/Tokyo"]}),
        ("0 2 * * *", {"tz": "UTC"}, {"crontab": ["0", "2", "*", "*", "*", "UTC"]}),
        (
            "0 2 * * *",
            {"tz": ZoneInfo("Europe/Berlin")},
            {"crontab": ["0", "2", "*", "*", "*", "Europe/Berlin"]},
        ),
        (90, {}, {"interval": [90, "seconds"]}),
        (1.5, {}, {"interval": [1_500_000, "microseconds"]}),
        (timedelta(hours=36), {}, {"interval": [36, "hours"]}),
        (solar("sunset", 52.5, 13.40123456), {}, {"solar": ["sunset", 52.5, 13.401235]}),
        (AT, {}, {"clocked": "2026-06-01T12:00:00+00:00"}),
    ],
)
def test_each_kind_of_schedule_can_be_declared(when, options, expected):
    """Where none is given, a crontab's zone is Celery's."""
    assert periodic(when, **options)(add) is add
    assert schedule_of(only(), "Asia/Tokyo") == expected


def test_every_is_an_interval_in_words():
    every(hours=1, minutes=30, missed="skip")(add)
    assert schedule_of(only(), "UTC") == {"interval": [90, "minutes"]}
    assert only().missed == (Missed.SKIP, None)


def test_a_task_may_have_several_of_which_one_needs_no_name():
    """The name of the task is the first one's."""
    periodic("0 2 * * *")(add)
    periodic("0 3 * * *", name="three", args=[1, 2], missed=Missed.all(max=10))(add)
    periodic("0 4 * * *", name="four", kwargs={"order_id": 7}, enabled=False)(charge)
    assert list(declared_by_name()) == [add.name, "three", "four"]
    assert declared_by_name()["three"].args_json == "[1,2]"
    assert declared_by_name()["three"].missed == ("all", 10)


def test_nothing_is_declared_before_it_stands_over_a_task():
    periodic("0 2 * * *")
    assert declared_by_name() == {}


def test_the_package_may_be_called_as_the_function():
    """Importing one of its modules puts it in place of the function."""
    assert tasks_app.periodic is sys.modules["tasks_app.periodic"]
    tasks_app.periodic("0 2 * * *", jitter=timedelta(minutes=1))(add)
    assert only().jitter == 60


def plain() -> None:
    """Stand for a helper without @task."""


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda: periodic("0 2 * *")(add), "'0 2 . .' has 4 fields. A crontab has five"),
        (lambda: periodic("0 25 * * *")(add), "25 > 23.*five fields: minute, hour"),
        (lambda: periodic("0 2 * * *", tz="Mars/Base")(add), "tz='Mars/Base'.*'Europe/Berlin'"),
        (lambda: periodic("0 2 * * *", tz=7)(add), "tz=7.*no such time zone"),
        (lambda: periodic(60, tz="UTC")(add), "only a crontab has a time zone; leave tz out"),
        (lambda: periodic(0.5)(add), "shorter than a second"),
        (lambda: periodic(3600.000001)(add), "pass whole seconds"),
        (lambda: periodic(None)(add), "periodic\\(None\\).*Pass a crontab such as"),
        (lambda: periodic(-5)(add), "between 0 and"),
        (lambda: periodic(AT.replace(tzinfo=None))(add), "without a zone; pass it with tzinfo="),
        (lambda: solar("moonrise", 1, 2), "moonrise"),
        (lambda: periodic(60, missed="al")(add), "missed='al': no such policy. Did you mean 'all'"),
        (lambda: periodic(60, missed=Missed.all(max=0))(add), "max=0.*at least 1"),
        (lambda: periodic(60, overlap="queue")(add), "Did you mean 'queue_one'"),
        (lambda: periodic(60, jitter=-1)(add), "jitter must lie between"),
        (lambda: periodic(60, jitter="much")(add), "jitter must be a number"),
        (lambda: periodic(60, args=7)(add), "args.*list or tuple"),
        (lambda: periodic(60, args=[object()])(add), r"periodic\(60\): args\[0\]"),
        (lambda: periodic(60, kwargs={"x": {1}})(add), r"kwargs\.x|kwargs\[.x.\]"),
        (lambda: periodic(60, name="")(add), "name='': pass name= as a text of 1 to 200"),
        (lambda: periodic(60, name="x" * 201)(add), "1 to 200 printable"),
        (lambda: periodic(60, enabled="no")(add), "enabled='no': pass True or False"),
        (lambda: periodic(60)(plain), "plain, which is no task: put @task below @periodic"),
        (lambda: periodic(60)(periodic(90)(add)), "without a name: give one of them"),
        (
            lambda: periodic(60, name="a")(periodic(90, name="a")(add)),
            "under the name 'a': give one of them another",
        ),
    ],
)
def test_what_is_wrong_is_told_with_the_remedy(declare, told):
    with pytest.raises(ConfigurationError, match=told):
        declare()


def test_a_name_that_is_another_task_s_is_refused_once_names_are_known():
    """Names of tasks are not asked for while modules are imported."""
    periodic(60)(add)
    periodic(60, name=add.name)(charge)
    with pytest.raises(ConfigurationError, match="give one of them another name"):
        declared_by_name()
