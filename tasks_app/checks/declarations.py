"""What was declared: tasks with `task()`, schedule entries, modules with tasks."""

import sys
from collections.abc import Iterator
from typing import Any

from celery.app.backends import by_url
from celery.exceptions import ImproperlyConfigured
from django.apps import apps

from tasks_app import declare
from tasks_app.arguments import decode
from tasks_app.checks.messages import Messages, listed, problem
from tasks_app.checks.project import (
    celery_app,
    celery_conf,
    is_fully_loaded,
    is_missing,
    loaded_tasks,
    outcome_tasks,
)
from tasks_app.exceptions import ConfigurationError
from tasks_app.options import NAMES_OBJECT, TaskOptions, declared, template_fields
from tasks_app.periodic.declaring import Declared, declarations, declared_by_name
from tasks_app.results import OutcomeBackend
from tasks_app.subjects import unknown_model
from tasks_app.suggestions import did_you_mean

#: Class and URL of a result backend; Celery's stubs have it wrong.
resolve_backend: Any = by_url

RESULT_BACKEND = f"{OutcomeBackend.__module__}:{OutcomeBackend.__qualname__}"


def check_modules(**kwargs: Any) -> Messages:
    """
    W008: Celery is told to import a module that does not exist.

    Remedy: correct or remove it in `CELERY_IMPORTS`.
    """
    conf = celery_conf()
    named = [*(conf.imports or ()), *(conf.include or ())]
    return [
        problem(
            "W008",
            f"CELERY_IMPORTS names {module!r}, which does not exist: workers do not start.",
            f"Correct or remove it: CELERY_IMPORTS = {[m for m in named if m != module]!r}",
        )
        for module in named
        if is_missing(module)
    ]


def check_schedule(**kwargs: Any) -> Messages:
    """
    W008: a schedule entry names a task that nobody registers.

    Told only where it is certain: the module that the name points into is loaded, or all task
    modules are. Rows of django_celery_beat are for the doctor.

    Remedy: correct the name in `CELERY_BEAT_SCHEDULE`; the nearest one is told.
    """
    known = loaded_tasks()
    messages = []
    for entry, options in (celery_conf().beat_schedule or {}).items():
        name = options.get("task", "") if isinstance(options, dict) else options.task
        if name in known or name.startswith("celery.") or not _is_certain(name):
            continue
        text = f"The schedule entry {entry!r} names the task {name!r}, which nobody registers."
        hint = f'CELERY_BEAT_SCHEDULE[{entry!r}]["task"] = "…".{did_you_mean(name, known)}'
        messages.append(problem("W008", text, hint))
    return messages


def check_backend(**kwargs: Any) -> Messages:
    """
    W030: results of outcomes are looked for where they are not.

    Whether a project builds chords cannot be seen from outside, but the trap is wider anyway:
    with another backend no `AsyncResult` of an outcome ever becomes ready.

    Remedy: `CELERY_RESULT_BACKEND = "tasks_app.results:OutcomeBackend"`, or remove it.
    """
    tasks = outcome_tasks()
    backend = celery_conf().result_backend
    if not tasks or _reads_outcomes(backend):
        return []
    return [
        problem(
            "W030",
            f"The result backend is {backend!r}, which does not read outcomes: AsyncResult of "
            f"{listed(tasks)} waits for ever, and chords of them never call back.",
            f'CELERY_RESULT_BACKEND = "{RESULT_BACKEND}"',
        )
    ]


def check_key_fields(**kwargs: Any) -> Messages:
    """
    E031: an idempotency key is made from a parameter that the helper does not have.

    Remedy: another name in the braces; the nearest one is told.
    """
    return [
        problem(
            "E031",
            f"The idempotency key {template!r} of {name} uses {field!r}, which is no parameter of "
            "the helper: every call raises.",
            f"{name}: idempotency_key={template!r} needs another name in its braces."
            f"{did_you_mean(field, options.signature.parameters)}",
        )
        for name, options, template in _templates()
        for field in template_fields(template)
        if field not in options.signature.parameters
    ]


def check_key_constants(**kwargs: Any) -> Messages:
    """
    W032: an idempotency key that is the same for every call.

    Remedy: name a parameter: `idempotency_key="charge:{order_id}"`.
    """
    return [
        problem(
            "W032",
            f"The idempotency key {template!r} of {name} names no parameter: all calls share it, "
            "and one with other arguments raises IdempotencyConflict.",
            f'idempotency_key="{template}:{{{next(iter(options.signature.parameters))}}}"',
        )
        for name, options, template in _templates()
        if options.signature.parameters and not template_fields(template)
    ]


def check_names(**kwargs: Any) -> Messages:
    """
    E033: two helpers under one task name: rows of the one would run the other.

    Remedy: `task(…, name="…")` with a name of its own.
    """
    return [
        problem(
            "E033",
            f"{listed(helpers)} are all declared as the task {name!r}: its outcomes run only one "
            "of them.",
            f'task({max(helpers).rpartition(".")[2]}, name="…") with a name of its own',
        )
        for name, helpers in declare.declared_by.items()
        if len(helpers) > 1
    ]


def check_subjects(**kwargs: Any) -> Messages:
    """
    E036: what `about` names is no model, or an argument that nobody may see.

    Remedy: a model of this project, by `app_label.model`, and its primary key.
    """
    messages = []
    for name, options in sorted(declared.items()):
        template = options.about
        match = NAMES_OBJECT.fullmatch(template) if isinstance(template, str) else None
        if name != options.name or match is None:
            continue
        error = unknown_model(match[1])
        secret = _secret_names(options).intersection(template_fields(match[2]))
        if secret:
            error = f"The value of {min(secret)!r} is masked everywhere, and would be shown by it."
        if error:
            text = f"{name} is declared with about={template!r}. {error}"
            messages.append(problem("E036", text, 'about="shop.order:{order_id}"'))
    return messages


def check_periodic_app(**kwargs: Any) -> Messages:
    """
    E037: periodic jobs are declared, and the app that has their tables is not installed.

    Remedy: `INSTALLED_APPS += ["django_celery_beat"]`.
    """
    if not declarations or apps.is_installed("django_celery_beat"):
        return []
    return [
        problem(
            "E037",
            f"{len(declarations)} periodic jobs are declared, and django_celery_beat is not "
            "installed: none of them ever runs.",
            'INSTALLED_APPS += ["django_celery_beat"]',
        )
    ]


def check_periodic_names(**kwargs: Any) -> Messages:
    """
    E038: two periodic jobs of one name, or a name that is too long: none is synced.

    Remedy: `@periodic(…, name="…")` with a name of its own, of 200 characters at most.
    """
    try:
        declared_by_name()
    except ConfigurationError as error:
        return [problem("E038", str(error), '@periodic(…, name="…") with a name of its own')]
    return []


def check_periodic_arguments(**kwargs: Any) -> Messages:
    """
    E039: a periodic job calls its task with arguments that do not fit.

    Remedy: `@periodic(…, args=[…], kwargs={…})` as the helper takes them.
    """
    messages = []
    for job in declarations:
        options = declared.get(job.task.name)
        error = options and _misfit(options, job)
        if error:
            messages.append(
                problem(
                    "E039",
                    f"The periodic job {job.name!r} calls {job.task.name} as nobody can: {error}. "
                    "None of its slots can be enqueued.",
                    "@periodic(…, args=[…], kwargs={…}) as the helper takes them",
                )
            )
    return messages


def _misfit(options: TaskOptions, job: Declared) -> str:
    try:
        options.signature.bind(*decode(job.args_json), **decode(job.kwargs_json))
    except TypeError as error:
        return str(error)
    return ""


def _secret_names(options: TaskOptions) -> frozenset[str]:
    try:
        return options.secret_names
    except ConfigurationError:  # told by E026
        return options.redact


def _is_certain(task_name: str) -> bool:
    module = sys.modules.get(task_name.rpartition(".")[0])
    is_leaf = module is not None and not hasattr(module, "__path__")
    return is_leaf or is_fully_loaded()


def _reads_outcomes(backend: Any) -> bool:
    try:
        found, _ = resolve_backend(backend, celery_app().loader)
    except (ImportError, AttributeError, ImproperlyConfigured):
        return False
    return issubclass(found, OutcomeBackend)


def _templates() -> Iterator[tuple[str, TaskOptions, str]]:
    """Yield name, options and template of each task with a key template, aliases left out."""
    for name, options in sorted(declared.items()):
        if name == options.name and isinstance(options.idempotency_key, str):
            yield name, options, options.idempotency_key


CHECKS = (
    check_modules,
    check_schedule,
    check_backend,
    check_key_fields,
    check_key_constants,
    check_names,
    check_subjects,
    check_periodic_app,
    check_periodic_names,
    check_periodic_arguments,
)
