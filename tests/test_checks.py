"""
Each system check speaks where its trap is, and only there.

One test per id, named for it. Checks are run through Django's registry, so a check that is not
registered fails its test.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import celery
import pytest
from celery import Celery
from django.conf import settings as django_settings
from django.contrib.auth.decorators import login_required
from django.core import mail
from django.core.checks import CheckMessage, run_checks
from django.db import connections
from django.test import override_settings
from django.urls import clear_url_caches, include, path

from tasks_app import celery as celery_side
from tasks_app import checks, filesystem, periodic, task
from tasks_app.declare import declared_by
from tasks_app.options import declared
from tasks_app.periodic.declaring import declarations

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(Path(checks.__file__).parent.glob("*.py"))
IDS = sorted(set(re.findall(r'"([EW]\d{3})"', "".join(path.read_text() for path in SOURCES))))

Configure = Callable[..., None]
Register = Callable[..., Any]


def reload_celery() -> None:
    """Make the Celery app read its settings again, as a new process would."""
    celery_side.app.config_from_object("django.conf:settings", namespace="CELERY", force=True)
    celery_side.app.add_defaults(celery_side.defaults)


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Change settings for the test, Celery's included."""
    for name in celery_side.BROKER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:

        def change(**settings: Any) -> None:
            stack.enter_context(override_settings(**settings))
            reload_celery()

        yield change
    reload_celery()


@pytest.fixture
def plain() -> Iterator[Register]:
    """Register plain Celery tasks, for the test."""
    app = celery_side.app
    names: list[str] = []

    def register(name: str, function: Any = nothing, **options: Any) -> None:
        app.task(name=name, **options)(function)
        names.append(name)

    yield register
    for name in names:
        app.tasks.unregister(name)


@pytest.fixture
def declaring() -> Iterator[None]:
    """Forget what the test declares."""
    before, by = dict(declared), {name: set(paths) for name, paths in declared_by.items()}
    yield
    for name in set(declared) - set(before):
        celery_side.app.tasks.pop(name, None)
    declared.clear()
    declared.update(before)
    declared_by.clear()
    declared_by.update(by)


def messages(number: str, **options: Any) -> list[CheckMessage]:
    """Return what the check of that id says now."""
    found = run_checks(tags=["tasks_app"], **options)
    return [message for message in found if message.id == f"tasks_app.{number}"]


def only(number: str, **options: Any) -> str:
    """Return text and hint of the one message with that id."""
    (message,) = messages(number, **options)
    assert message.hint
    assert message.is_serious() == number.startswith("E")
    return f"{message.msg}\n{message.hint}"


def nothing() -> None:
    """Stand for a plain Celery task."""


def charge(order_id: int) -> None:
    """Stand for a helper."""


def refund(order_id: int) -> None:
    """Stand for another helper."""


def installed_without(name: str) -> list[str]:
    return [app for app in django_settings.INSTALLED_APPS if app != name]


@pytest.mark.parametrize("number", IDS)
def test_each_id_has_a_test_and_a_place_in_the_documentation_of_its_check(number):
    """An id that the package can say is tested below, and told by the check's docstring."""
    assert any(name.startswith(f"test_tasks_app_{number}") for name in globals())
    assert re.search(rf'"""\s*{number}\b', "".join(path.read_text() for path in SOURCES))


def test_tasks_app_E001_results_in_an_app_that_is_not_installed(configure):
    configure(CELERY_RESULT_BACKEND="django-db")
    assert not messages("E001")
    configure(INSTALLED_APPS=installed_without("django_celery_results"))
    assert 'INSTALLED_APPS += ["django_celery_results"]' in only("E001")


def test_tasks_app_E002_schedule_in_an_app_that_is_not_installed(configure):
    installed = list(django_settings.INSTALLED_APPS)
    for scheduler in ("django_celery_beat.schedulers:DatabaseScheduler", "tasks_app"):
        configure(CELERY_BEAT_SCHEDULER=scheduler, INSTALLED_APPS=installed)
        assert not messages("E002")
        configure(INSTALLED_APPS=installed_without("django_celery_beat"))
        assert 'INSTALLED_APPS += ["django_celery_beat"]' in only("E002")


@pytest.mark.filterwarnings("ignore::celery.exceptions.CeleryWarning")  # of others' tasks
def test_tasks_app_E003_two_celery_apps():
    assert not messages("E003")
    other = Celery("shop")
    try:
        assert "'shop'" in only("E003")
    finally:
        other.close()
        celery_side.app.set_current()


def test_tasks_app_E003_two_celery_apps_on_purpose():
    """An app made only for sending elsewhere is nobody's trap."""
    other = Celery("elsewhere", set_as_current=False)
    assert not messages("E003")
    other.close()


@pytest.mark.parametrize(
    ("source", "is_told"),
    [
        ('from celery import Celery\napp = Celery("shop")\n', True),
        ('import celery\napp = celery.Celery("shop")\n', True),
        ("from tasks_app.celery import app\n", False),
        ("# app = Celery('shop')\n", False),
    ],
)
def test_tasks_app_E003_own_app_that_nothing_imports(
    configure, tmp_path, monkeypatch, source, is_told
):
    package = f"shop{abs(hash(source))}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "celery.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    __import__(package)
    configure(SETTINGS_MODULE=f"{package}.settings")
    assert bool(messages("E003")) == is_told
    assert f"{package}.celery" not in sys.modules
    if is_told:
        assert f"{package}/__init__.py: from .celery import app as celery_app" in only("E003")


def test_tasks_app_E004_no_broker_outside_debug(configure):
    configure(DEBUG=False, CELERY_BROKER_URL=None)
    assert 'CELERY_BROKER_URL = "redis://' in only("E004")
    configure(CELERY_BROKER_URL="redis://localhost:1/0")
    assert not messages("E004")
    configure(DEBUG=True, CELERY_BROKER_URL=None)
    assert not messages("E004")


def test_tasks_app_E004_a_broker_from_the_environment_will_do(configure, monkeypatch):
    configure(DEBUG=False, CELERY_BROKER_URL=None)
    monkeypatch.setenv("REDIS_URL", "redis://localhost:1/0")
    assert not messages("E004")


def test_tasks_app_E004_the_line_of_its_hint_ends_it(configure, tmp_path):
    configure(DEBUG=False, CELERY_BROKER_URL=None)
    (url,) = re.findall(r'alone: CELERY_BROKER_URL = "(.*)"', only("E004"))
    configure(CELERY_BROKER_URL=url)
    assert not messages("E004")
    assert messages("W005")


@pytest.mark.parametrize("url", ["filesystem://", "memory://", filesystem.url("folder")])
def test_tasks_app_W005_embedded_broker_outside_debug(configure, url):
    configure(DEBUG=False, CELERY_BROKER_URL=url)
    assert url.partition(":")[0] in only("W005")
    configure(DEBUG=True)
    assert not messages("W005")


def test_tasks_app_W006_unknown_celery_setting(configure):
    configure(CELERY_TASK_TIME_LIMITT=3, CELERY_REDBEAT_REDIS_URL="redis://")
    assert "Did you mean 'CELERY_TASK_TIME_LIMIT'?" in only("W006")


def test_tasks_app_W006_unknown_setting_without_a_near_name(configure):
    configure(CELERY_QQQQ=3)
    assert "SILENCED_SYSTEM_CHECKS" in only("W006")


def test_tasks_app_W007_setting_name_from_before_celery_4(configure):
    configure(CELERYD_CONCURRENCY=3)
    assert "CELERY_WORKER_CONCURRENCY = … instead of CELERYD_CONCURRENCY" in only("W007")
    configure(CELERY_WORKER_CONCURRENCY=3)
    assert not messages("W007")
    assert not messages("W006")


def test_tasks_app_W008_module_that_does_not_exist(configure):
    configure(CELERY_IMPORTS=["tests.testapp.tasks"])
    assert not messages("W008")
    configure(CELERY_IMPORTS=["tests.testapp.tasks", "tests.testapp.taks"])
    assert "CELERY_IMPORTS = ['tests.testapp.tasks']" in only("W008")


def test_tasks_app_W008_schedule_entry_with_an_unregistered_task(configure):
    import_module("tests.testapp.tasks")
    entry = {"task": "tests.testapp.helpers.add", "schedule": 60}
    configure(CELERY_BEAT_SCHEDULE={"sums": entry})
    assert not messages("W008")
    configure(CELERY_BEAT_SCHEDULE={"sums": {**entry, "task": "tests.testapp.helpers.ad"}})
    assert "Did you mean 'tests.testapp.helpers.add'?" in only("W008")


def test_tasks_app_W009_visibility_timeout_shorter_than_a_late_acknowledged_task(configure, plain):
    configure(CELERY_BROKER_URL="redis://localhost:1/0")
    plain("shop.quick", acks_late=True, time_limit=60)
    plain("shop.early", time_limit=7200)
    assert not messages("W009")
    plain("shop.slow", acks_late=True, time_limit=7200)
    assert "shop.slow may run longer than the broker's visibility timeout (3600 s)" in only("W009")
    configure(CELERY_BROKER_TRANSPORT_OPTIONS={"visibility_timeout": 14400})
    assert not messages("W009")


def test_tasks_app_W010_late_acknowledgement_that_loses_the_message(plain):
    plain("shop.safe", acks_late=True, reject_on_worker_lost=True)
    assert not messages("W010")
    plain("shop.lossy", acks_late=True)
    assert "shop.lossy:" in only("W010")


def test_tasks_app_W011_no_time_limit(configure, plain):
    plain("shop.hangs")
    configure(CELERY_TASK_TIME_LIMIT=60)
    assert not messages("W011", include_deployment_checks=True)
    configure(CELERY_TASK_TIME_LIMIT=None)
    assert not messages("W011")
    assert "no time limit" in only("W011", include_deployment_checks=True)


def test_tasks_app_W012_flower_without_events(configure):
    pytest.importorskip("flower")
    assert not messages("W012")
    configure(CELERY_WORKER_ENABLE_REMOTE_CONTROL=False)
    assert "CELERY_WORKER_ENABLE_REMOTE_CONTROL = True" in only("W012")
    configure(CELERY_WORKER_ENABLE_REMOTE_CONTROL=False, CELERY_WORKER_SEND_TASK_EVENTS=True)
    assert not messages("W012")


def test_tasks_app_W013_eager_outside_tests(configure, monkeypatch):
    configure(CELERY_TASK_ALWAYS_EAGER=True)
    assert not messages("W013")
    monkeypatch.delattr(mail, "outbox")
    assert "CELERY_TASK_ALWAYS_EAGER = False" in only("W013")


def test_tasks_app_W014_sqlite_as_it_comes(monkeypatch):
    options = {"init_command": "PRAGMA journal_mode=WAL;", "transaction_mode": "IMMEDIATE"}
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": options}
    monkeypatch.setitem(connections.settings, "outcomes", database)
    with override_settings(TASKS_APP={"DATABASE": "outcomes"}):
        assert not messages("W014", include_deployment_checks=True)
        del options["transaction_mode"]
        assert not messages("W014")
        assert "journal_mode=WAL" in only("W014", include_deployment_checks=True)


def test_tasks_app_W015_celery_replaces_the_projects_logging(configure):
    configure(LOGGING={"version": 1})
    assert not messages("W015")
    configure(CELERY_WORKER_HIJACK_ROOT_LOGGER=True)
    assert "CELERY_WORKER_HIJACK_ROOT_LOGGER = False" in only("W015")


def test_tasks_app_W016_sentry_is_configured_but_does_not_run(monkeypatch):
    assert not messages("W016")
    monkeypatch.setenv("SENTRY_DSN", "http://key@localhost:1/1")
    assert "not initialised" in only("W016")


def test_tasks_app_W017_request_id_middleware_twice_or_not_first(settings):
    ours = "tasks_app.middleware.RequestIDMiddleware"
    others = ["django.middleware.common.CommonMiddleware"]
    settings.MIDDLEWARE = [ours, *others]
    assert not messages("W017", include_deployment_checks=True)
    settings.MIDDLEWARE = [ours, *others, ours]
    assert "2 times" in only("W017")
    settings.MIDDLEWARE = [*others, ours]
    assert "comes after django.middleware.common.CommonMiddleware" in only("W017")


@pytest.mark.parametrize(
    "theirs",
    ["django_guid.middleware.guid_middleware", "django_structlog.middlewares.RequestMiddleware"],
)
def test_tasks_app_W017_request_id_middleware_beside_one_whose_id_it_adopts(settings, theirs):
    ours = "tasks_app.middleware.RequestIDMiddleware"
    settings.MIDDLEWARE = [theirs, ours]
    assert not messages("W017", include_deployment_checks=True)
    settings.MIDDLEWARE = [ours, theirs]
    assert f"comes before {theirs}" in only("W017")


def test_tasks_app_W017_request_id_middleware_missing(settings):
    settings.MIDDLEWARE = []
    assert not messages("W017")
    assert "not in MIDDLEWARE" in only("W017", include_deployment_checks=True)


def test_tasks_app_W018_flower_for_everybody(monkeypatch):
    pytest.importorskip("flower")
    monkeypatch.delenv("FLOWER_UNAUTHENTICATED_API", raising=False)
    monkeypatch.delenv("FLOWER_BASIC_AUTH", raising=False)
    assert "FLOWER_BASIC_AUTH" in only("W018", include_deployment_checks=True)
    assert not messages("W018")
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "operator:secret")
    assert not messages("W018", include_deployment_checks=True)
    monkeypatch.setenv("FLOWER_UNAUTHENTICATED_API", "true")
    assert "unset" in only("W018", include_deployment_checks=True)


@pytest.mark.parametrize("unsafe", ["pickle", "yaml", "application/x-python-serialize"])
def test_tasks_app_W019_messages_that_can_run_code(configure, unsafe):
    assert not messages("W019")
    configure(CELERY_ACCEPT_CONTENT=["json", unsafe])
    assert unsafe in only("W019")


def test_tasks_app_W020_plain_tasks_start_before_the_request_commits(plain, monkeypatch):
    plain("shop.notify")
    assert not messages("W020")
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", 1)
    assert "shop.notify" in only("W020")


def test_tasks_app_W021_zones_differ(configure):
    configure(TIME_ZONE="Etc/UTC", CELERY_TIMEZONE="UTC")
    assert not messages("W021")
    configure(CELERY_TIMEZONE="Europe/Berlin")
    assert "CELERY_TIMEZONE = TIME_ZONE" in only("W021")


def test_tasks_app_W022_results_never_expire(configure):
    configure(CELERY_RESULT_BACKEND="django-db")
    assert not messages("W022")
    configure(CELERY_RESULT_EXPIRES=None)
    assert "CELERY_RESULT_EXPIRES = 86400" in only("W022")


def test_tasks_app_W023_pool_that_is_forked(monkeypatch):
    database = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": True}}
    monkeypatch.setitem(connections.settings, "outcomes", database)
    # Celery closes the pools of other databases before it forks, since 5.6.
    assert bool(messages("W023")) == (celery.VERSION[:2] < (5, 6))
    with override_settings(TASKS_APP={"DATABASE": "outcomes"}):
        assert "DATABASES of outcomes" in only("W023")


def test_tasks_app_W024_coroutine_that_is_not_awaited(plain):
    async def fetch() -> None:
        """Do nothing."""

    plain("shop.send")
    assert not messages("W024")
    plain("shop.fetch", fetch)
    assert "shop.fetch:" in only("W024")


def test_tasks_app_E025_unknown_key(settings):
    settings.TASKS_APP = {"LEESE": 45, "LEASE": 45}
    assert "Did you mean 'LEASE'?" in only("E025")


@pytest.mark.parametrize(
    ("name", "value"),
    [("LEASE", -1), ("MAX_CRASHES", "3"), ("RETENTION", {"lost": 3}), ("DATABASE", None)],
)
def test_tasks_app_E026_bad_value(settings, name, value):
    settings.TASKS_APP = {name: value}
    assert f"TASKS_APP[{name!r}] is {value!r}" in only("E026")


@pytest.mark.parametrize("name", ["ADMIN_URL", "FLOWER_URL"])
@pytest.mark.parametrize(
    "value",
    [
        *("", 8000, "shop.example/admin", "admin/", "ftp://shop.example/", "javascript:alert(1)"),
        *("//shop.example/", "/\\shop.example", "https:///admin", "https://[shop", "http://x:y/"),
        *("https://me:secret@shop.example/", "https://shop.example/?next=1", "/admin/#top"),
        *('https://shop.example/"><script>', "https://shop.example/\t", "/admin pages/"),
    ],
)
def test_tasks_app_E026_an_address_that_browsers_cannot_be_sent_to(settings, name, value):
    settings.TASKS_APP = {name: "https://shop.example:8443/admin/"}
    assert not messages("E026")
    settings.TASKS_APP = {name: value}
    assert f"TASKS_APP[{name!r}] is" in only("E026")


def test_tasks_app_E026_no_dict_at_all(settings):
    settings.TASKS_APP = ["LEASE"]
    assert "must be a dict" in only("E026")


def test_tasks_app_E027_unknown_database(settings):
    assert not messages("E027")
    settings.TASKS_APP = {"DATABASE": "defaul"}
    assert "Did you mean 'default'?" in only("E027")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"LEASE": 0.5, "RESCUE_INTERVAL": 0.5}, "short pause"),
        ({"LEASE": 20, "RESCUE_INTERVAL": timedelta(minutes=1)}, "lost workers are found"),
        ({"RELAY_INTERVAL": 11}, "runs the rescuer"),
    ],
)
def test_tasks_app_W028_times_that_do_not_fit(settings, given, told):
    assert not messages("W028")
    settings.TASKS_APP = given
    assert any(told in message.msg for message in messages("W028"))


def test_tasks_app_W028_sqlite_waits_longer_than_a_lease_lasts(settings, monkeypatch):
    database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "OPTIONS": {"timeout": 20},
    }
    monkeypatch.setitem(connections.settings, "outcomes", database)
    settings.TASKS_APP = {"DATABASE": "outcomes"}
    assert not messages("W028")
    settings.TASKS_APP = {"DATABASE": "outcomes", "LEASE": 20}
    assert "SQLite may wait 20 s" in only("W028")


def test_tasks_app_W028_soft_limit_after_the_hard_one(configure):
    configure(CELERY_TASK_TIME_LIMIT=60, CELERY_TASK_SOFT_TIME_LIMIT=60)
    assert "CELERY_TASK_SOFT_TIME_LIMIT = 54" in only("W028")


def test_tasks_app_E029_celery_cannot_read_its_settings(fresh_project):
    (fresh_project / "shop" / "__init__.py").write_text(
        'from celery import Celery\n\napp = Celery("shop")\n'
        'app.config_from_object("shop.no_such_module")\n'
    )
    said = run([sys.executable, "manage.py", "check"], fresh_project)
    assert re.findall(r"tasks_app\.[EW]\d+", said) == ["tasks_app.E029"]
    assert "no_such_module" in said


def test_tasks_app_W030_results_are_looked_for_elsewhere(configure, declaring):
    configure(CELERY_RESULT_BACKEND="tasks_app.results:OutcomeBackend")
    task(charge)
    assert not messages("W030")
    configure(CELERY_RESULT_BACKEND="django-db")
    assert 'CELERY_RESULT_BACKEND = "tasks_app.results:OutcomeBackend"' in only("W030")


@pytest.mark.parametrize("template", ["charge:{ordre_id}", "{0}", "{}", "{ordre_id.year:>4}"])
def test_tasks_app_E031_key_from_a_parameter_that_does_not_exist(declaring, template):
    task(refund, name="shop.refund", idempotency_key="refund:{order_id}")
    assert not messages("E031")
    task(charge, name="shop.charge", idempotency_key=template)
    assert "shop.charge" in only("E031")


def test_tasks_app_W032_key_that_is_the_same_for_every_call(declaring):
    task(nothing, name="shop.nightly", idempotency_key="nightly")
    assert not messages("W032")
    task(charge, name="shop.charge", idempotency_key="charge")
    assert 'idempotency_key="charge:{order_id}"' in only("W032")


@pytest.mark.filterwarnings("ignore::celery.exceptions.CeleryWarning")
def test_tasks_app_E033_two_helpers_under_one_name(declaring):
    task(charge, name="shop.pay")
    task(charge, name="shop.pay")
    assert not messages("E033")
    task(refund, name="shop.back", aliases=["shop.pay"])
    assert "tests.test_checks.charge, tests.test_checks.refund" in only("E033")


@pytest.mark.parametrize(
    ("about", "told"),
    [("shop.order:{order_id}", "no model"), ("auth.user:{token}", "'token' is masked")],
)
def test_tasks_app_E036_about_a_model_that_does_not_exist_or_a_secret(declaring, about, told):
    def pay(order_id: int, token: str) -> None:
        """Stand for a helper with a secret."""

    task(pay, name="shop.pay", about="auth.user:{order_id}")
    assert not messages("E036")
    task(pay, name="shop.pay_again", about=about)
    assert told in only("E036")


@pytest.fixture
def _jobs() -> Iterator[None]:
    """Declare no periodic job but the test's."""
    before = list(declarations)
    declarations.clear()
    yield
    declarations[:] = before


@pytest.mark.usefixtures("_jobs", "declaring")
def test_tasks_app_E037_periodic_jobs_without_their_tables():
    installed = [app for app in django_settings.INSTALLED_APPS if app != "django_celery_beat"]
    with override_settings(INSTALLED_APPS=installed):
        assert not messages("E037")
        periodic(60, args=[7])(task(charge, name="shop.pay"))
        assert 'INSTALLED_APPS += ["django_celery_beat"]' in only("E037")
    assert not messages("E037")


@pytest.mark.usefixtures("_jobs", "declaring")
def test_tasks_app_E038_two_periodic_jobs_of_one_name():
    periodic(60, args=[7])(task(charge, name="shop.pay"))
    assert not messages("E038")
    periodic(60, args=[7], name="shop.pay")(task(refund, name="shop.back"))
    assert "named 'shop.pay'" in only("E038")


@pytest.mark.usefixtures("_jobs", "declaring")
def test_tasks_app_E039_periodic_job_with_arguments_that_do_not_fit():
    pay = periodic(60, args=[7])(task(charge, name="shop.pay"))
    periodic(60, kwargs={"order_id": 7}, name="another")(pay)
    assert not messages("E039")
    periodic(60, name="without")(pay)
    assert "'without' calls shop.pay as nobody can: missing" in only("E039")


def test_tasks_app_W034_database_without_skip_locked(monkeypatch):
    features = connections["default"].features
    assert not messages("W034", databases=["default"])
    monkeypatch.setattr(features, "has_select_for_update", True)
    monkeypatch.setattr(features, "has_select_for_update_skip_locked", False)
    assert not messages("W034")
    assert "RELAY_IN_WORKER" in only("W034", databases=["default"])


@pytest.fixture
def fresh_project(tmp_path) -> Path:
    """What `django-admin startproject` and one line in INSTALLED_APPS make."""
    run([sys.executable, "-m", "django", "startproject", "shop", str(tmp_path)], tmp_path)
    settings = tmp_path / "shop" / "settings.py"
    text = settings.read_text()
    settings.write_text(text.replace("INSTALLED_APPS = [", 'INSTALLED_APPS = [\n    "tasks_app",'))
    return tmp_path


def run(command: list[str], folder: Path, **environment: str) -> str:
    """Return all that a command prints, in an environment that names no broker."""
    kept = {k: v for k, v in os.environ.items() if k not in celery_side.BROKER_VARIABLES}
    kept.pop("DJANGO_SETTINGS_MODULE", None)
    if folder == ROOT:
        kept["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    kept["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def test_a_fresh_project_in_development_hears_nothing(fresh_project):
    """One line in INSTALLED_APPS is a complete installation: no check has anything to say."""
    assert "no issues" in run([sys.executable, "manage.py", "check"], fresh_project)


def test_a_fresh_project_in_production_hears_of_its_broker_alone(fresh_project):
    """Without a broker it is told so; with the embedded one chosen, it is told the limits."""
    settings = fresh_project / "shop" / "settings.py"
    settings.write_text(settings.read_text().replace("DEBUG = True", "DEBUG = False"))
    check = [sys.executable, "manage.py", "check"]
    said = run(check, fresh_project)
    assert re.findall(r"tasks_app\.[EW]\d+", said) == ["tasks_app.E004"]
    said = run(check, fresh_project, CELERY_BROKER_URL=filesystem.url(fresh_project / "broker"))
    assert re.findall(r"tasks_app\.[EW]\d+", said) == ["tasks_app.W005"]


def test_checks_import_no_task_module_and_connect_to_nothing(fresh_project):
    """A project whose tasks cannot be imported and whose servers are down can be checked."""
    package = fresh_project / "shop"
    (package / "tasks.py").write_text('raise RuntimeError("imported")\n')
    (package / "celery.py").write_text("from tasks_app.celery import app\n")
    settings = package / "settings.py"
    database = '{"default": {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1"}}'
    settings.write_text(
        settings.read_text().replace('"tasks_app",', '"tasks_app", "shop",')
        + f"\nDEBUG = False\nDATABASES = {database}\nSECURE_SSL_REDIRECT = True\n"
        + 'CELERY_BEAT_SCHEDULE = {"nightly": {"task": "shop.tasks.nightly", "schedule": 60}}\n'
    )
    broker = "redis://127.0.0.1:1/0"
    said = run([sys.executable, "manage.py", "check"], fresh_project, BROKER_URL=broker, PGPORT="1")
    assert "no issues" in said


def test_tasks_app_W035_results_for_everybody(settings, monkeypatch):
    settings.DJANGO_CELERY_RESULTS_ID_FIRST_URLS = False
    urls = ModuleType("tests.urls_with_results")
    monkeypatch.setitem(sys.modules, urls.__name__, urls)
    settings.ROOT_URLCONF = urls.__name__
    guarded = login_required(import_module("django_celery_results.views").task_status)
    urls.urlpatterns = [path("results/<task_id>", guarded)]
    assert not messages("W035")
    clear_url_caches()
    urls.urlpatterns = [path("celery/", include("django_celery_results.urls"))]
    assert 'Remove include("django_celery_results.urls")' in only("W035")
    del settings.ROOT_URLCONF
    assert not messages("W035")
