"""
Subjects: which objects of the project a call is about, as its caller or its declaration says.

They are read before anything is written, so a wrong one raises at the call, and they are written
with the outcome, in the same transaction: one INSERT however many there are, none for a call that
is about nothing. What a call enqueues in turn is about something of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db.models import Model

from tasks_app.arguments import has_surrogate
from tasks_app.exceptions import ConfigurationError, InvalidArgument
from tasks_app.models import Subject
from tasks_app.options import NAMES_OBJECT, TaskOptions, template_fields
from tasks_app.statements import BATCH
from tasks_app.suggestions import did_you_mean

#: Objects that one call may be about.
MOST = 100

#: Width of the column, in characters.
LONGEST_KEY = 255


class Named(NamedTuple):
    """An object by its model, `app_label.model` in lower case, and its primary key as text."""

    model: str
    object_pk: str


def named(about: Any) -> tuple[Named, ...]:
    """
    Return what is meant by an object, a text `app_label.model:pk`, None, or a list of these.

    Raises:
        InvalidArgument: it is none of these, an object that is not saved, or an unknown model.
    """
    each = list(about) if isinstance(about, list | tuple | set | frozenset) else [about]
    found = tuple(dict.fromkeys(_named(one) for one in each if one is not None))
    if len(found) > MOST:
        msg = f"about: a call may be about {MOST} objects, not about {len(found)}."
        raise InvalidArgument(msg)
    return found


def declared_subjects(
    task: TaskOptions, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Named, ...]:
    """
    Return what a declaration makes of the arguments; nothing where one that it needs is None.

    Raises:
        ConfigurationError: the format string asks for a part that an argument does not have.
        InvalidArgument: see `named`.
    """
    about = task.about
    if about is None:
        return ()
    if callable(about):
        return named(about(*args, **kwargs))
    bound = task.bound(args, kwargs)
    if any(bound.get(name) is None for name in template_fields(about)):
        return ()
    try:
        return named(about.format(**bound))
    except (LookupError, AttributeError) as error:
        msg = f"about={about!r} asks for what no argument has: {error}."
        raise ConfigurationError(msg) from error


def subject_of(instance: Model) -> Named:
    """Return a saved object's name; proxies are what they stand for."""
    return Named(_label(type(instance)), str(instance.pk))


def write(about: Mapping[UUID, Iterable[Named]]) -> None:
    """Write what new outcomes are about, in the caller's transaction."""
    rows = [
        Subject(outcome_id=outcome_id, model=model, object_pk=object_pk)
        for outcome_id, each in about.items()
        for model, object_pk in each
    ]
    if rows:
        Subject.objects.bulk_create(rows, batch_size=BATCH)


def copy(source: UUID, target: UUID) -> None:
    """Let an outcome be about what another one is about."""
    rows = Subject.objects.filter(outcome_id=source).order_by("pk")
    write({target: [Named(*row) for row in rows.values_list("model", "object_pk")]})


def unknown_model(label: str) -> str:
    """Return what is wrong with a model's name, and the nearest one; "" where it is known."""
    app_label, _, name = label.partition(".")
    try:
        apps.get_model(app_label, name)
    except LookupError:
        models = apps.get_models()
        near = [each for each in models if each._meta.app_label == app_label]
        known = {each._meta.label_lower for each in near or models}
        return f"There is no model {label!r}.{did_you_mean(label.lower(), known)}"
    return ""


def _named(about: Any) -> Named:
    if isinstance(about, Model):
        if about.pk is None:
            msg = f"about={about!r} is not saved, so it has no primary key to go by."
            raise InvalidArgument(msg)
        return _checked(subject_of(about))
    match = NAMES_OBJECT.fullmatch(about) if isinstance(about, str) else None
    if match is None:
        msg = f"about={about!r}: pass an object, a text such as 'shop.order:7', or a list of these."
        raise InvalidArgument(msg)
    label, key = match.groups()
    if fault := unknown_model(label):
        msg = f"about={about!r}: {fault}"
        raise InvalidArgument(msg)
    model = apps.get_model(label)
    try:
        # As the object itself would spell it, so that both lead to one row.
        key = str(model._meta.pk.to_python(key))
    except (ValidationError, ValueError, TypeError) as error:
        msg = f"about={about!r}: {key!r} is no primary key of {label}."
        raise InvalidArgument(msg) from error
    return _checked(Named(_label(model), key))


def _label(model: type[Model]) -> str:
    concrete = model._meta.concrete_model or model
    return concrete._meta.label_lower


def _checked(subject: Named) -> Named:
    key = subject.object_pk
    if not 0 < len(key) <= LONGEST_KEY or "\0" in key or has_surrogate(key):
        msg = f"about: a primary key of {subject.model} that is no text of 1 to {LONGEST_KEY}."
        raise InvalidArgument(msg)
    return subject
